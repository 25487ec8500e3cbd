"""Other frameworks that a graph can be compared with: onnxruntime and OpenVINO, where they are installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import Graph

Runner = Callable[[Graph, Mapping[str, Any]], dict[str, Any]]
"""All outputs of a graph by name, for given inputs."""


def values_by_onnxruntime(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """All outputs of ``graph`` by name, computed by onnxruntime without its optimizations.

    Raises:
        UsageError: where onnxruntime is not installed, or cannot run the model.
    """
    check_installed("onnxruntime")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4  # what it would write on stderr is in the exception
    names = [value.name for value in graph.outputs]
    try:
        session = onnxruntime.InferenceSession(_content(graph), settings, providers=["CPUExecutionProvider"])
        results = session.run(names, dict(feeds))
    except Exception as error:  # onnxruntime raises classes of its own, all derived from Exception alone
        raise _cannot("onnxruntime", error) from error
    return dict(zip(names, results, strict=True))


def values_by_openvino(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """All outputs of ``graph`` by name, computed by OpenVINO's CPU plugin as it usually does, floats in 32 bits.

    Quantized operators are computed in integers where it has kernels for them.

    Raises:
        UsageError: where OpenVINO is not installed, or cannot run the model.
    """
    check_installed("openvino")
    import openvino

    names = [value.name for value in graph.outputs]
    try:
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(_content(graph)), "CPU", options)
        results = compiled(dict(feeds))
        arrays = [np.array(results[index]) for index in range(len(names))]
    except Exception as error:  # it raises RuntimeError, and what its checks of types raise
        raise _cannot("openvino", error) from error
    return dict(zip(names, arrays, strict=True))


def check_installed(name: str) -> None:
    """
    Raises:
        UsageError: if ``name`` is one of the `PEERS`, and is not installed.
    """
    if name in PEERS:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UsageError(f"{name} is not installed: 'pip install {name}' brings it") from None


PEERS: Mapping[str, Runner] = {"onnxruntime": values_by_onnxruntime, "openvino": values_by_openvino}
"""By the name that a user gives instead of a device's."""


_FRAMES = ("Exception from", "Check 'false'", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")
"""Lines of OpenVINO's messages that say where in its source, and not what."""


def _content(graph: Graph) -> bytes:
    from mace_core.frontend.onnx.export import to_onnx

    return bytes(to_onnx(graph).SerializeToString())


def _cannot(name: str, error: Exception) -> UsageError:
    lines = [line.strip(" -") for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(_FRAMES)]
    return UsageError(
        f"{name} cannot run this model ({said[0] if said else type(error).__name__}): compare with another device"
    )
