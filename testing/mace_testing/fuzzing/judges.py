"""The two independent implementations that results are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]


def ask_reference(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any]:
    """All outputs by onnx.reference; raises whatever it raises."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Any] = ReferenceEvaluator(model).run(None, dict(feeds))
    return found


def ask_onnxruntime(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Any]:
    """All outputs by onnxruntime on one CPU thread, without its optimizations; raises whatever it raises."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found: list[Any] = session.run(None, dict(feeds))
    return found


JUDGES: dict[str, Callable[[onnx.ModelProto, Mapping[str, Array]], list[Any]]] = {
    "onnx.reference": ask_reference,
    "onnxruntime": ask_onnxruntime,
}
