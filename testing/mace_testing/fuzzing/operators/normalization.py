"""Normalizations."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

LOOSE = {2: 1e-2, 4: 2e-4, 8: 2e-4}
"""Item size -> tolerance: a small variance makes a large quotient of its rounding errors."""


def _loose(dtype: np.dtype[Any]) -> float:
    return LOOSE[dtype.itemsize]


@draws("BatchNormalization")
def batch(source: Source, op: str) -> OpCase:
    """Inference only."""
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(2, 4, empty=False)
    channels = (shape[1],)
    others = source.dtype(op, opset, 1) if opset >= 15 and source.rarely(4) else dtype
    spread = source.dtype(op, opset, 3) if opset >= 15 and source.rarely(4) else others
    inputs = (
        source.array(shape, dtype),
        source.array(channels, others, 0.5, 2),
        source.array(channels, others, -2, 2),
        source.array(channels, spread, -2, 2),
        source.array(channels, spread, 0.5, 2),
    )
    return OpCase(
        op,
        opset,
        inputs,
        {"epsilon": 1e-3} if source.flag() else {},
        tolerance=_loose(np.dtype(np.float16) if 2 in (dtype.itemsize, others.itemsize, spread.itemsize) else dtype),
    )


@draws("InstanceNormalization")
def instance(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = (source.dim(1, 3), source.dim(1, 20), *source.shape(1, 3, empty=False))
    x = source.floats(shape, dtype)
    scale, shift = source.array((shape[1],), dtype, 0.5, 2), source.array((shape[1],), dtype)
    return OpCase(op, opset, (x, scale, shift), {"epsilon": 1e-2} if source.flag() else {}, tolerance=_loose(dtype))


@draws("GroupNormalization")
def group(source: Source, op: str) -> OpCase:
    opset = source.opset(op, first=21)  # before, scale and bias were per group, which was a mistake of the standard
    dtype = source.dtype(op, opset)
    groups = source.dim(1, 4)
    channels = groups * source.dim(1, 4)
    x = source.floats((source.dim(1, 3), channels, *source.shape(1, 3, empty=False)), dtype)
    scale, shift = source.array((channels,), dtype, 0.5, 2), source.array((channels,), dtype)
    attributes: dict[str, Any] = {"num_groups": groups}
    if source.flag():
        attributes["epsilon"] = 1e-2
    tolerance = max(_loose(dtype), _lost_in_variance(x.reshape(x.shape[0] * groups, -1), attributes))
    return OpCase(op, opset, (x, scale, shift), attributes, tolerance=tolerance)


def _lost_in_variance(groups: Array, attributes: dict[str, Any]) -> float:
    """What the judges' results may be off by: like the body in the standard they take the variance as the mean of
    squares less the square of the mean, in float32, and lose what the two have in common."""
    exact = groups.astype(np.float64)
    variance = exact.var(axis=1) + attributes.get("epsilon", 1e-5)
    return float(2**-22 * np.max(np.mean(exact**2, axis=1) / variance, initial=0.0))


@draws("LayerNormalization", "RMSNormalization")
def layer(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1, 4, empty=False)
    axis = source.axis(len(shape)) if source.flag() else -1
    row = shape[axis:]
    x = source.floats(shape, dtype)
    inputs: list[Array] = [x, source.array(row, dtype, 0.5, 2)]
    attributes: dict[str, Any] = {"axis": axis} if axis != -1 or source.flag() else {}
    attributes["epsilon"] = 1e-2
    if op == "LayerNormalization" and source.flag():
        inputs.append(source.array(row, dtype))
    outputs = (True, True, True) if op == "LayerNormalization" and source.rarely(4) else (True,)
    return OpCase(op, opset, tuple(inputs), attributes, outputs, tolerance=_loose(dtype))


@draws("LRN")
def response(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(3, 4, empty=False)
    attributes: dict[str, Any] = {"size": source.integer(1, 6)}
    for name, value in (("alpha", 0.01), ("beta", 0.5), ("bias", 2.0)):
        if source.flag():
            attributes[name] = value
    return OpCase(op, opset, (source.array(shape, dtype),), attributes)


@draws("LpNormalization")
def length(source: Source, op: str) -> OpCase:
    """No row of zeros: what it becomes is not said before opset 22."""
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1, 4, empty=False)
    attributes: dict[str, Any] = {"p": source.dim(1, 2)} if source.flag() else {}
    if source.flag():
        attributes["axis"] = source.axis(len(shape))
    return OpCase(op, opset, (source.array(shape, dtype, 0.5, 4),), attributes)


@draws("MeanVarianceNormalization")
def mean_variance(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = (source.dim(1, 3), source.dim(1, 4), source.dim(2, 5), source.dim(2, 5))
    # over one element, or equal ones, the variance is 0 but for rounding errors, whose root may be NaN
    axes = sorted({source.integer(2, 3), *source.subset(4)})
    attributes = {"axes": axes} if source.flag() and opset >= 9 else {}
    x = source.distinct(shape, dtype)
    return OpCase(op, opset, ((x / np.asarray(8, dtype)).astype(dtype),), attributes, tolerance=_loose(dtype))
