"""Sums, products, extremes and norms along axes; positions of extremes; running sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

AXES_ARE_AN_INPUT_SINCE = {"ReduceSum": 13}
"""18 for all others."""


@draws(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"),
    *("ReduceSum", "ReduceSumSquare"),
)
def reduction(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    # a logarithm is not a whole number
    dtype = source.dtype(op, opset, only=schema.FLOATS if op.startswith("ReduceLog") else ())
    # extremes, means and logarithms of nothing are undefined
    empty = op in ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceProd")
    shape = source.shape(empty=empty)
    low, high = (1, 2) if op in ("ReduceProd", "ReduceLogSum") else (-3, 3)
    x = source.array(shape, dtype, low, high, 0.5)
    if op == "ReduceProd" and dtype.kind in "iu":
        # few twos among ones: what a product beyond the type's range is, is not said
        x = np.where(np.arange(x.size).reshape(x.shape) < 6, x, np.ones_like(x))
    axes = source.axes(len(shape), negative=opset >= 11) if source.flag() else None
    attributes: dict[str, Any] = {"keepdims": int(source.flag())} if source.flag() else {}
    if opset < AXES_ARE_AN_INPUT_SINCE.get(op, 18):
        # an empty attribute reads as all axes to some and as none to others
        if axes:
            attributes["axes"] = axes
        return OpCase(op, opset, (x,), attributes)
    if source.flag():
        attributes["noop_with_empty_axes"] = int(source.flag())
    return OpCase(op, opset, (x,) if axes is None else (x, np.array(axes, np.int64)), attributes)


@draws("ArgMax", "ArgMin")
def position(source: Source, op: str) -> OpCase:
    """Ties are wanted: the first (or, where asked, the last) of equals is the answer."""
    opset = source.opset(op)
    shape = source.shape(1, empty=False)
    x = source.array(shape, source.dtype(op, opset), -3, 3, 1)
    axis = source.axis(len(shape)) if opset >= 11 else source.integer(0, len(shape) - 1)
    attributes = {"axis": axis} if source.flag() else {}
    if source.flag():
        attributes["keepdims"] = int(source.flag())
    if opset >= 12 and source.flag():
        attributes["select_last_index"] = int(source.flag())
    return OpCase(op, opset, (x,), attributes)


@draws("CumSum", "CumProd")
def running(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape(1)
    low, high = (1, 2) if op == "CumProd" else (-4, 4)
    x = source.array(shape, dtype, low, high, 0.5)
    axis = np.array(source.axis(len(shape)), source.pick([np.int64, np.int32]))
    attributes = {name: int(source.flag()) for name in ("exclusive", "reverse") if source.flag()}
    return OpCase(op, opset, (x, axis), attributes)


@draws("Det")
def determinant(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    size = source.dim(1, 5)
    x = source.array((*source.shape(0, 2, empty=False), size, size), source.dtype(op, opset, only=schema.FLOATS[:2]))
    return OpCase(op, opset, (x,), tolerance=1e-4)
