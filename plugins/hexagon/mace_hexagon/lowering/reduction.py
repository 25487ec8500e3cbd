"""Reductions over axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.qnn.types import DataType

_OPERATIONS = {
    "ReduceMean": "ReduceMean",
    "ReduceSum": "ReduceSum",
    "ReduceMax": "ReduceMax",
    "ReduceMin": "ReduceMin",
}


_EXTREMES = ("ReduceMax", "ReduceMin")


def _reduce(context: NodeContext) -> None:
    dtype = context.dtype()
    is_real = dtype in (DType.FLOAT32, DType.FLOAT16)
    if not is_real and (context.node.op_type not in _EXTREMES or dtype is DType.UINT32 or context.is_quantized):
        raise DeclinedError(f"{context.node.op_type} of {dtype.label} is not offered: the library sums in floats")
    rank = len(context.shape())
    axes = context.attr("axes")
    if context.has(1):
        axes = context.integers(1)
    if not axes:
        if context.attr("noop_with_empty_axes", 0):
            context.emit("Reshape", [context.x(0)])
            return
        axes = range(rank)
    reduced = sorted({axis % rank for axis in axes})
    keep, order = bool(context.attr("keepdims", 1)), context.order()
    where = np.array(sorted(order.index(axis) for axis in reduced), np.uint32)
    result_order = order
    if not keep:
        left = [axis for axis in range(rank) if axis not in reduced]
        result_order = tuple(left.index(axis) for axis in order if axis in left)
    x, operation = context.x(0, order), _OPERATIONS[context.node.op_type]
    params: dict[str, Any] = {"axes": where, "keep_dims": np.bool_(keep)}
    if x.encoding is not None and not is_real:
        raise DeclinedError(f"{context.node.op_type} of quantized codes is not offered")
    if dtype is not DType.BOOL:
        context.emit(operation, [x], result_order, **params)
        return
    chain = Chain(context)
    numbers = chain.op("Cast", x, data_type=DataType.INT_32)
    shape = tuple(context.out_shape()[axis] for axis in result_order) or (1,)
    found = chain.shaped(operation, (numbers,), shape, DataType.INT_32, **params)
    context.emit("Cast", [found], result_order)


LOWERINGS.add(dict.fromkeys(_OPERATIONS, _reduce))
