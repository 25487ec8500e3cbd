"""Split and Slice."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import int32_vector
from mace_apu.neuron.constants import Operation


def _order_with(context: NodeContext, axis: int) -> Order:
    """An order of operand 0 that lists ``axis``."""
    order = context.order()
    if axis not in order:
        raise DeclinedError(f"{context.node.op_type} along an axis of length 1 of more than four dimensions is not "
                            "offered")  # fmt: skip
    return order


def _split(context: NodeContext) -> None:
    axis = int(context.attr("axis", 0)) % len(context.shape())
    order = _order_with(context, axis)
    place, source = order.index(axis), context.x(0, order)
    outputs = [index for index, value in enumerate(context.node.outputs) if value is not None]
    if len(outputs) != len(context.node.outputs):
        raise DeclinedError("Split with a result left out is not offered")
    results = [context.new_result(order, index) for index in outputs]
    for index in outputs:
        context.require_same_encoding(source, index)
    if len({result.shape for result in results}) == 1:
        if len(results) == 1:
            context.lowering.reshape(source, results[0])
        else:
            parts = [scalar_int(place, "axis"), scalar_int(len(results), "count")]
            context.lowering.add(Operation.SPLIT, [source, *parts], results)
    else:
        start = 0
        for result in results:
            begin = [0] * len(order)
            begin[place] = start
            _cut(context, source, begin, result)
            start += result.shape[place]
    for index, result in zip(outputs, results, strict=True):
        context.finish(result, order, index)


def _cut(context: NodeContext, source: Operand, begin: list[int], result: Operand) -> None:
    where = [int32_vector(begin, "begin"), int32_vector(result.shape, "size")]
    context.lowering.add(Operation.SLICE, [source, *where], [result])


def _slice(context: NodeContext) -> None:
    shape, out, order = context.shape(), context.out_shape(), context.order()
    starts, steps = [0] * len(shape), [1] * len(shape)
    if context.has(1):
        first = context.integers(1)
        axes = context.integers(3) if context.has(3) else list(range(len(first)))
        strides = context.integers(4) if context.has(4) else [1] * len(first)
    else:  # before opset 10
        first = list(context.attr("starts"))
        axes = list(context.attr("axes") or range(len(first)))
        strides = [1] * len(first)
    for axis, start, step in zip(axes, first, strides, strict=True):
        size = shape[axis]
        start = start + size if start < 0 else start
        starts[axis] = min(max(start, 0), size if step > 0 else size - 1)
        steps[axis] = step
    source = context.x(0, order)
    context.require_same_encoding(source)
    result = context.new_result(order)
    if all(steps[axis] == 1 for axis in order):
        _cut(context, source, [starts[axis] for axis in order], result)
    else:
        ends = [starts[axis] + out[axis] * steps[axis] for axis in order]
        beyond = sum(1 << place for place, end in enumerate(ends) if end < 0)  # counted from the end otherwise
        bounds = [int32_vector(numbers, name) for numbers, name in (
            ([starts[axis] for axis in order], "begin"),
            (np.maximum(ends, 0).tolist(), "end"),
            ([steps[axis] for axis in order], "strides"),
        )]  # fmt: skip
        masks = [scalar_int(mask, name) for mask, name in ((0, "begin_mask"), (beyond, "end_mask"), (0, "shrink"))]
        context.lowering.add(Operation.STRIDED_SLICE, [source, *bounds, *masks], [result])
    context.finish(result, order)


LOWERINGS.add({"Split": _split, "Slice": _slice})
