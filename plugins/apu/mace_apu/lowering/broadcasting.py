"""Operands of one operation in one order, so that they broadcast as ONNX says."""

from __future__ import annotations

from collections.abc import Sequence

from mace_apu.description import Operand
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.orders import Order


def broadcast(context: NodeContext, indices: Sequence[int]) -> tuple[Order, list[Operand]]:
    """The order of the result, and the operands laid out for it: that of the first operand which has its rank and is
    there in another than the natural order already, else the natural one."""
    rank = len(context.out_shape())
    order = natural = context.out_natural()
    computed = [index for index in indices if not context.is_constant(index)]
    for index in computed:
        found = context.order(index)
        if len(context.shape(index)) == rank and found != natural and set(found) == set(natural):
            order = found
            break
    return order, [_laid(context, index, order, rank) for index in indices]


def _laid(context: NodeContext, index: int, order: Order, rank: int) -> Operand:
    """One operand; axes that it does not have are 1 long, those in front may be left out."""
    shape = context.shape(index)
    missing = rank - len(shape)
    own = tuple(axis - missing for axis in order if axis >= missing)
    operand = context.x(index, own)
    full = tuple(1 if axis < missing else shape[axis - missing] for axis in order)
    absent = [axis < missing for axis in order]
    in_front = absent == sorted(absent, reverse=True)
    return operand if in_front or not shape else context.reshaped(operand, full)
