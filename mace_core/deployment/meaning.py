"""Keys of MACE that are understood and change nothing here, each with the reason; told where a file sets them."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.deployment.schema import Deployment, GraphKeys, ModelKeys

_MODEL = {
    "limit_opencl_kernel_time": "kernels are not split; a governor (mace.governor) keeps a device responsive",
    "opencl_queue_window_size": "the queue is not limited; requests have deadlines and priorities instead",
    "nnlib_graph_mode": "it is of Hexagon's nnlib, which QNN replaces (the option hexagon.performance is like it)",
    "accelerator_api": "the provider of the runtime chooses the library",
    "docker_image_tag": "no other framework is run in Docker",
    "dockerfile_path": "no other framework is run in Docker",
    "micro": "there is no interpreter for microcontrollers; ahead-of-time builds need nothing but libc",
    "weight_file_path": "weights beside an ONNX model are found by what the model says",
}
_GRAPH = {
    "backend": "results are compared with onnxruntime's, else with the reference provider's",
    "accuracy_validation_script": "it is written for MACE's validator; `mace accuracy` takes a function of yours",
    "change_concat_ranges": "what is concatenated shares its range anyway",
    "cl_mem_type": "the OpenCL provider chooses buffers or images by itself",
    "graph_optimize_options": "every pass runs where it finds something; --no-optimize runs none",
    "check_tensors": "`mace validate --layers` compares every tensor",
    "quantize_stat": "ranges are found in the conversion; --quantize-stat writes them to a file",
}


def without_meaning(deployment: Deployment) -> Iterator[tuple[tuple[str, ...], str]]:
    """``(path of the key, why it means nothing here)`` of each that is set to something."""
    if deployment.apu_version_with_no_device != -1:
        yield ("apu_version_with_no_device",), "the APU provider asks the device"
    for name, model in deployment.models.items():
        yield from _set_keys(model, _MODEL, ("models", name))
        for graph_name, graph in model.subgraphs.items():
            yield from _set_keys(graph, _GRAPH, ("models", name, "subgraphs", graph_name))


def _set_keys(
    keys: ModelKeys | GraphKeys, table: dict[str, str], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, reason in table.items():
        if name in keys.model_fields_set and getattr(keys, name):
            yield (*path, name), reason
