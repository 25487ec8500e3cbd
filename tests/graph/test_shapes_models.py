"""The resolver on real models: against onnxruntime's intermediate results, onnx's inference, and the clock."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Value
from mace_core.graph.signature import Resolution
from mace_core.operators import dump_resolution, load_resolution, resolve
from mace_core.tensor import DType, TensorType
from mace_core.testing import models

OCR = {
    "det": (models.PP_OCR_DET, [(1, 3, 640, 640), (1, 3, 96, 320), (2, 3, 160, 224)]),
    "rec": (models.PP_OCR_REC, [(1, 3, 48, 320), (1, 3, 48, 111), (3, 3, 48, 400)]),
    "cls": (models.PP_OCR_CLS, [(1, 3, 48, 192), (5, 3, 48, 192)]),
}


def packaged(model: tuple[str, str]) -> Path:
    module = {"rapidocr-onnxruntime": "rapidocr_onnxruntime", "silero-vad": "silero_vad"}[model[0]]
    from importlib.util import find_spec

    if find_spec(module) is None:
        pytest.skip(f"{model[0]}, which holds the model, is not installed")
    return models.find_packaged_model(*model)


def values_of(graph: Graph) -> dict[str, Value]:
    return {value.name: value for node in graph.nodes for value in node.outputs if value is not None}


def resolved(graph: Graph, *shapes: tuple[int, ...]) -> Resolution:
    types = {v: TensorType(v.type.dtype, s) for v, s in zip(graph.inputs, shapes, strict=True)}  # type: ignore[union-attr]
    return resolve(graph, types)


@pytest.mark.parametrize(
    ("name", "shape"), [(name, shape) for name, (_, shapes) in OCR.items() for shape in shapes], ids=str
)
def test_every_intermediate_shape_is_onnxruntimes(name: str, shape: tuple[int, ...]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = packaged(OCR[name][0])
    model = onnx.load(path)
    graph = load_model(path)
    names = [n for n in values_of(graph) if n not in {o.name for o in model.graph.output}]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = [o.name for o in session.get_outputs()]
    arrays = dict(zip(outputs, session.run(outputs, {"x": models.sample_image(shape)}), strict=True))
    found = resolved(graph, shape)
    assert found.blocked == {}
    for value_name, value in values_of(graph).items():
        array = arrays[value_name]
        assert found.types[value] == TensorType(DType.from_numpy(array.dtype), array.shape), value_name
        if value in found.known:
            np.testing.assert_allclose(found.known[value].numpy(), array, rtol=1e-6, err_msg=value_name)


@pytest.mark.parametrize("name", models.LIGHT_MODELS)
def test_classic_structures_agree_with_onnx(name: str) -> None:
    path = models.light_model_path(name)
    graph = load_model(path)
    found = resolved(graph, (1, 3, 224, 224))
    assert found.blocked == {}
    inferred = shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    named = values_of(graph)
    compared = 0
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if info.name in named and all(dims):
            assert found.types[named[info.name]] == TensorType(DType(info.type.tensor_type.elem_type), tuple(dims))
            compared += 1
    assert compared > 0.9 * len(named)


def test_voice_activity_step_is_fully_known() -> None:
    graph = load_model(packaged(models.SILERO_VAD))
    shapes = [(1, 576), (2, 1, 128)][: len(graph.inputs)]
    found = resolved(graph, *shapes)
    assert found.blocked == {}
    assert [found.types[value] for value in graph.outputs] == [
        TensorType(DType.FLOAT32, (1, 1)),
        TensorType(DType.FLOAT32, (2, 1, 128)),
    ]


CALLS_PER_NODE = 40
"""Half as many again as there are."""


def test_a_new_input_shape_costs_few_calls_per_node() -> None:
    """Some 15 ms for the recognizer; counted, because a clock tells what else the machine does."""
    graph = load_model(packaged(models.PP_OCR_REC))
    resolved(graph, (1, 3, 48, 320))
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        resolved(graph, (1, 3, 48, 328))
    finally:
        sys.setprofile(before)
    assert calls / len(graph.nodes) < CALLS_PER_NODE, calls


@pytest.mark.parametrize("name", OCR)
def test_a_stored_resolution_comes_back_equal_for_an_equal_graph(name: str) -> None:
    model, shapes = OCR[name]
    graph, again = load_model(packaged(model)), load_model(packaged(model))
    found = resolved(graph, shapes[0])
    stored = dump_resolution(graph, found)
    loaded = load_resolution(again, stored)
    assert {v.name: t for v, t in loaded.types.items()}.items() >= {v.name: t for v, t in found.types.items()}.items()
    assert {v.name: t.numpy().tolist() for v, t in loaded.known.items()} == {
        v.name: t.numpy().tolist() for v, t in found.known.items()
    }
    assert all(values_of(again)[v.name] is v for v in loaded.known)
