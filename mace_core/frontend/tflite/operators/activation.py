"""Functions of one tensor, element by element."""

from __future__ import annotations

import numpy as np

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter

_SAME_NAME = {
    "ABS": "Abs",
    "CEIL": "Ceil",
    "COS": "Cos",
    "ELU": "Elu",
    "EXP": "Exp",
    "FLOOR": "Floor",
    "LOG": "Log",
    "LOGICAL_NOT": "Not",
    "LOGISTIC": "Sigmoid",
    "RELU": "Relu",
    "ROUND": "Round",
    "SIGN": "Sign",
    "SIN": "Sin",
    "SQRT": "Sqrt",
    "TANH": "Tanh",
}


@converter(*_SAME_NAME)
def same(op: Operation) -> None:
    """What ONNX has under another spelling; both round to even."""
    op.finish(op.emit(_SAME_NAME[op.file.builtin], [op.real(0)]))


@converter("NEG")
def negative(op: Operation) -> None:
    """Of quantized numbers LiteRT takes the stored ones, whatever their scales; the least one stays as it is."""
    op.keep(op.emit("Neg", [op.stored(0)]))


_BOUNDS = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}


@converter(*_BOUNDS)
def bounded(op: Operation) -> None:
    low, high = _BOUNDS[op.file.builtin]
    op.finish(op.emit("Clip", [op.real(0), op.like(low), op.like(high)]))


@converter("RSQRT")
def reciprocal_root(op: Operation) -> None:
    op.finish(op.emit("Reciprocal", [op.emit("Sqrt", [op.real(0)])]))


@converter("SQUARE")
def square(op: Operation) -> None:
    x = op.real(0)
    op.finish(op.emit("Mul", [x, x]))


@converter("HARD_SWISH")
def hard_swish(op: Operation) -> None:
    op.finish(op.emit("HardSwish", [op.real(0)]))


@converter("LEAKY_RELU", options="LeakyReluOptions")
def leaky_relu(op: Operation) -> None:
    op.finish(op.emit("LeakyRelu", [op.real(0)], {"alpha": float(op.option("Alpha"))}))


@converter("GELU", options="GeluOptions")
def gelu(op: Operation) -> None:
    approximate = "tanh" if op.option("Approximate") else "none"
    op.finish(op.emit("Gelu", [op.real(0)], {"approximate": approximate}))


@converter("PRELU")
def prelu(op: Operation) -> None:
    """The slope is broadcast as ONNX broadcasts it: along the last axes."""
    op.finish(op.emit("PRelu", [op.real(0), op.real(1)]))


@converter("SOFTMAX", options="SoftmaxOptions")
def softmax(op: Operation) -> None:
    """Along the last axis, of the input times beta."""
    x, beta = op.real(0), float(op.option("Beta"))
    if beta != 1:
        x = op.emit("Mul", [x, op.number(beta, np.float32)])
    op.finish(op.emit("Softmax", [x], {"axis": -1}))


@converter("LOG_SOFTMAX")
def log_softmax(op: Operation) -> None:
    op.finish(op.emit("LogSoftmax", [op.real(0)], {"axis": -1}))


@converter("ZEROS_LIKE")
def zeros_like(op: Operation) -> None:
    x = op.stored(0)
    op.keep(op.emit("Sub", [x, x]) if op.dtype(0).is_integer else op.emit("Mul", [x, op.like(0)]))
