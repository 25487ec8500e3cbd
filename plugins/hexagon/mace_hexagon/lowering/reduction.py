"""Reductions over axes."""

from __future__ import annotations

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.table import LOWERINGS

_OPERATIONS = {
    "ReduceMean": "ReduceMean",
    "ReduceSum": "ReduceSum",
    "ReduceMax": "ReduceMax",
    "ReduceMin": "ReduceMin",
}


def _reduce(context: NodeContext) -> None:
    if context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered")
    rank = len(context.shape())
    axes = context.attr("axes")
    if context.has(1):
        axes = context.integers(1)
    if not axes:
        if context.attr("noop_with_empty_axes", 0):
            raise DeclinedError("a reduction over no axes is left to other devices")
        axes = range(rank)
    reduced = sorted({axis % rank for axis in axes})
    keep, order = bool(context.attr("keepdims", 1)), context.order()
    where = np.array(sorted(order.index(axis) for axis in reduced), np.uint32)
    result_order = order
    if not keep:
        left = [axis for axis in range(rank) if axis not in reduced]
        result_order = tuple(left.index(axis) for axis in order if axis in left)
    context.emit(
        _OPERATIONS[context.node.op_type], [context.x(0, order)], result_order, axes=where, keep_dims=np.bool_(keep)
    )


LOWERINGS.add(dict.fromkeys(_OPERATIONS, _reduce))
