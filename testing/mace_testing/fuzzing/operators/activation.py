"""Activation functions and their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

PARAMETERS = {
    "LeakyRelu": ("alpha",), "Elu": ("alpha",), "Celu": ("alpha",), "Selu": ("alpha", "gamma"), "Swish": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "ThresholdedRelu": ("alpha",), "Shrink": ("bias", "lambd"),
}  # fmt: skip


@draws(
    *("Relu", "Sigmoid", "Softplus", "Softsign", "Mish", "HardSwish"),
    *PARAMETERS,
)
def activation(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    x = source.array(source.shape(), dtype, -8, 8, 0.125)
    if op in ("Relu", "Sigmoid", "LeakyRelu") and source.rarely(6):
        x = source.special(x)
    low = 0.25 if op in ("Celu", "Elu", "Selu") else -2.0
    if op == "Shrink":
        low = 0.0
    # whole parameters for whole numbers: whether x + 0.25 is cast before or after the sum is not clear
    step = 0.25 if dtype.kind == "f" else 1.0
    attributes: dict[str, Any] = {name: source.number(low, 2, step) for name in PARAMETERS.get(op, ()) if source.flag()}
    return OpCase(op, opset, (x,), attributes)


@draws("Gelu")
def gelu(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = source.array(source.shape(), source.dtype(op, opset), -6, 6, 0.125)
    return OpCase(op, opset, (x,), {"approximate": source.pick(["none", "tanh"])} if source.flag() else {})


@draws("PRelu")
def parametric(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape()
    return OpCase(op, opset, (source.array(shape, dtype), source.array(source.broadcast(shape), dtype, -2, 2)))


@draws("SwiGLU")
def gated(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape()
    a, b = source.array(shape, dtype, -8, 8, 0.125), source.array(shape, dtype)
    return OpCase(op, opset, (a, b), {"alpha": source.number(0.5, 2)} if source.flag() else {})


@draws("Softmax", "LogSoftmax", "Hardmax")
def along_axis(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1)
    x = source.distinct(shape, dtype) / np.asarray(4, dtype) if op == "Hardmax" else source.array(shape, dtype, -8, 8)
    axis = source.axis(len(shape)) if opset >= 11 else source.integer(0, len(shape) - 1)
    return OpCase(op, opset, (x.astype(dtype),), {"axis": axis} if source.flag() else _default_axis(opset, len(shape)))


def _default_axis(opset: int, rank: int) -> dict[str, Any]:
    """Before opset 13 the axis is 1 where none is given, which a vector does not have."""
    return {"axis": 0} if opset < 13 and rank == 1 else {}


@draws("Dropout")
def dropout(source: Source, op: str) -> OpCase:
    """Inference only: training draws random numbers."""
    opset = source.opset(op)
    x = source.array(source.shape(), source.dtype(op, opset))
    # what the mask is in inference is said since opset 12
    outputs = (True, True) if opset >= 12 and source.flag() else (True,)
    if opset < 12:
        return OpCase(op, opset, (x,), {"ratio": 0.5}, outputs)
    ratio = np.array(0.5, np.float32) if source.flag() else None
    training = np.array(False) if source.flag() else None
    inputs = (x, ratio, training) if training is not None else (x, ratio) if ratio is not None else (x,)
    return OpCase(op, opset, inputs, {}, outputs, constants=frozenset({2}) if training is not None else frozenset())
