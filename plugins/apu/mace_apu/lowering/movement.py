"""Operators that move numbers without computing: many are another view of their operand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import NHWC
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import BYTES
from mace_apu.neuron.constants import Fuse, OperandCode, Operation


def _reshape(context: NodeContext) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same numbers in the same order."""
    x = context.x(0)
    context.require_same_encoding(x)
    result = context.new_result()
    if result.shape == x.shape and x.data is None:
        context.finish(x)
        return
    context.lowering.reshape(x, result)
    context.finish(result)


def _transpose(context: NodeContext) -> None:
    rank = len(context.shape())
    perm = tuple(context.attr("perm") or reversed(range(rank)))
    if context.is_constant(0):
        raise DeclinedError("Transpose of a constant is left to the core")
    context.alias(tuple(perm.index(axis) for axis in context.order()))


def _identity(context: NodeContext) -> None:
    if context.node.output(1) is not None:
        raise DeclinedError("Dropout with a mask is not offered")
    if context.node.op_type == "Dropout":
        training = context.node.input(2)
        known = context.lowering.view.constant(training) if training is not None else None
        dropping = training is not None and (known is None or bool(known.numpy().any()))
        if dropping or (context.lowering.view.opset() < 7 and not context.attr("is_test", 0)):
            raise DeclinedError("Dropout in training mode is not offered")
    if context.is_constant(0):
        raise DeclinedError(f"{context.node.op_type} of a constant is left to the core")
    context.alias(context.order())


def _concat(context: NodeContext) -> None:
    rank = len(context.out_shape())
    axis = int(context.attr("axis")) % rank
    indices = [index for index in range(len(context.node.inputs)) if context.has(index)]
    natural = context.out_natural()
    if axis not in natural:
        natural = tuple(sorted({*natural[1:], axis}))
    computed = (context.order(index) for index in indices if not context.is_constant(index))
    order = next((o for o in computed if o != natural and set(o) == set(natural)), natural)
    operands = [context.x(index, order) for index in indices]
    if len({operand.code for operand in operands}) > 1:
        raise DeclinedError("Concat of several types is not offered by Neuron")
    context.emit(Operation.CONCATENATION, [*operands, scalar_int(order.index(axis), "axis")], order)


def _gather(context: NodeContext) -> None:
    shape, indices = context.shape(), context.array(1)
    axis = int(context.attr("axis", 0)) % len(shape)
    if indices is None:
        _gather_computed(context, axis)
        return
    wrapped = np.where(indices < 0, indices + shape[axis], indices)
    if wrapped.size and (wrapped.min() < 0 or wrapped.max() >= shape[axis]):
        raise DeclinedError("Gather with indices beyond the axis is not offered")
    x = context.x(0)
    context.require_same_encoding(x)
    natural = context.lowering.natural(context.operand(0))
    result = context.new_result()
    if axis not in natural:
        raise DeclinedError("Gather along an axis of length 1 of more than four dimensions is not offered")
    place = natural.index(axis)
    flat = context.constant(wrapped.reshape(-1).astype(np.int32), "indices")
    made = context.temporary((*x.shape[:place], wrapped.size, *x.shape[place + 1 :]), result, "rows")
    straight = made.shape == result.shape
    context.lowering.add(Operation.GATHER, [x, scalar_int(place, "axis"), flat], [result if straight else made])
    context.finish(result if straight else context.reshaped(made, result.shape))


def _gather_computed(context: NodeContext, axis: int) -> None:
    """Indices below 0, which Neuron does not know, are counted from the end first."""
    shape, wanted, x, indices = context.shape(), context.shape(1), context.x(0), context.x(1)
    if x.shape != shape or indices.shape != wanted or len(wanted) != 1:
        raise DeclinedError("Gather is offered with computed indices of one dimension, and of up to four dimensions")
    context.require_same_encoding(x)
    flags = Operand(f"{context.node.name}.negative", OperandCode.TENSOR_BOOL8, wanted)
    context.lowering.add(Operation.LESS, [indices, context.constant(np.zeros(1, np.int32), "zero")], [flags])
    rounds = context.temporary(wanted, indices, "rounds")
    choices = [context.constant(np.full(wanted, number, np.int32), "round") for number in (shape[axis], 0)]
    context.lowering.add(Operation.SELECT, [flags, *choices], [rounds])
    none = scalar_int(int(Fuse.NONE), "activation")
    wrapped = context.compute(Operation.ADD, [indices, rounds, none])
    context.emit(Operation.GATHER, [x, scalar_int(axis, "axis"), wrapped])


def _pad(context: NodeContext) -> None:
    rank, order = len(context.shape()), context.order()
    if context.attr("mode", "constant") not in ("constant", b"constant"):
        raise DeclinedError(f"Pad {context.attr('mode')} is not offered by Neuron, only a constant")
    flat = context.integers(1) if context.has(1) else list(context.attr("pads"))
    axes = [axis % rank for axis in context.integers(3)] if context.has(3) else list(range(rank))
    pairs = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pairs[axis] = (flat[position], flat[position + len(axes)])
    if any(pad < 0 for pair in pairs for pad in pair):
        raise DeclinedError("Pad by negative amounts is not offered by Neuron")
    if any(pair != (0, 0) for axis, pair in enumerate(pairs) if axis not in order):
        raise DeclinedError("Pad of more than four dimensions is not offered by Neuron")
    fill = context.array(2) if context.has(2) else np.array(context.attr("value", 0.0))
    if fill is None:
        raise DeclinedError("Pad with a value computed at run time is not offered by Neuron")
    x = context.x(0, order)
    context.require_same_encoding(x)
    number = float(fill.reshape(-1)[0]) if fill.size else 0.0
    if np.isnan(number):
        raise DeclinedError("Pad with what is not a number is not offered")
    padded = pad_operand(context, x, [pairs[axis] for axis in order], number)
    context.finish(padded, order)


def pad_operand(context: NodeContext, x: Operand, pairs: Sequence[tuple[int, int]], number: float) -> Operand:
    """``x`` with ``number`` around it, (before, after) along each dimension."""
    shape = [before + size + after for size, (before, after) in zip(x.shape, pairs, strict=True)]
    amounts = np.array(pairs, np.int32).reshape(len(pairs), 2)
    held = Operand(f"{context.node.name}.pads", OperandCode.TENSOR_INT32, amounts.shape, data=amounts)
    if x.code in BYTES:
        limits = np.iinfo(np.uint8 if x.code is OperandCode.TENSOR_QUANT8_ASYMM else np.int8)
        code = int(np.clip(np.rint(number / x.scale) + x.zero_point, limits.min, limits.max))
        fill = scalar_int(code, "fill")
    else:
        fill = context.scalar(number, x, "fill")
    return context.compute(Operation.PAD_V2, [x, held, fill], shape)


def _tile(context: NodeContext) -> None:
    """Tile and Expand: whole repetitions along axes."""
    shape, out = context.shape(), context.out_shape()
    result = context.new_result()
    aligned = (1,) * (len(out) - len(shape)) + shape
    source = context.x(0)
    context.require_same_encoding(source)
    full = context.reshaped(source, tuple(aligned[axis] for axis in context.out_natural()) or (1,))
    if full.shape == result.shape:
        if full.data is not None:
            raise DeclinedError(f"{context.node.op_type} of a constant is left to the core")
        context.finish(full)
        return
    context.lowering.add(Operation.TILE, [full, context.repeats(full.shape, result.shape)], [result])
    context.finish(result)


def _depth_to_space(context: NodeContext) -> None:
    shape, block = context.shape(), int(context.attr("blocksize"))
    if len(shape) != 4:
        raise DeclinedError(f"{context.node.op_type} is offered for four dimensions")
    x = context.x(0, NHWC)
    context.require_same_encoding(x)
    size, nhwc = scalar_int(block, "block"), scalar_bool(False, "nchw")
    by_channel = context.attr("mode", "DCR") == "CRD" and block > 1
    if context.node.op_type == "SpaceToDepth":
        if not by_channel or shape[1] == 1:
            context.emit(Operation.SPACE_TO_DEPTH, [x, size, nhwc], NHWC)
            return
        deep = (shape[0], shape[2] // block, shape[3] // block, shape[1] * block * block)
        x = context.compute(Operation.SPACE_TO_DEPTH, [x, size, nhwc], deep)
        shuffled = [x, scalar_int(block * block, "groups"), scalar_int(3, "axis")]
        context.emit(Operation.CHANNEL_SHUFFLE, shuffled, NHWC)
        return
    depth = shape[1] // (block * block)
    if by_channel and depth > 1:
        shuffled = [x, scalar_int(depth, "groups"), scalar_int(3, "axis")]
        x = context.compute(Operation.CHANNEL_SHUFFLE, shuffled)
    context.emit(Operation.DEPTH_TO_SPACE, [x, size, nhwc], NHWC)


LOWERINGS.add(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
        "Transpose": _transpose,
        "Identity": _identity,
        "Dropout": _identity,
        "Concat": _concat,
        "Gather": _gather,
        "Pad": _pad,
        "Tile": _tile,
        "Expand": _tile,
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _depth_to_space,
    }
)
