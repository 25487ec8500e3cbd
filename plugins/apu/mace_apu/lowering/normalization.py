"""Softmax and the normalizations."""

from __future__ import annotations

import math

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.activation import require_fixed_result
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.folding import normalization
from mace_apu.lowering.orders import NHWC, Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import Array, int32_vector
from mace_apu.neuron.constants import Fuse, Operation


def _softmax(context: NodeContext) -> None:
    shape = context.shape()
    rank, old = len(shape), context.lowering.view.opset() < 13
    axis = int(context.attr("axis", 1 if old else -1)) % rank
    require_fixed_result(context)
    if old and math.prod(shape[axis + 1 :]) != 1:
        _softmax_of_rest(context, axis)
        return
    order = context.order()
    if axis not in order:
        raise DeclinedError("Softmax along an axis of length 1 of more than four dimensions is not offered")
    x = context.x(0, order)
    where = scalar_int(order.index(axis), "axis")
    context.emit(Operation.SOFTMAX, [x, context.scalar(1.0, x, "beta"), where], order)


def _softmax_of_rest(context: NodeContext, axis: int) -> None:
    """Before opset 13 all axes from ``axis`` on are one."""
    shape, x = context.shape(), context.x(0)
    rows = context.reshaped(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
    result = context.new_result()
    made = context.temporary(rows.shape, result, "rows")
    inputs = [rows, context.scalar(1.0, x, "beta"), scalar_int(1, "axis")]
    context.lowering.add(Operation.SOFTMAX, inputs, [made])
    context.finish(context.reshaped(made, result.shape))


def _batch_norm(context: NodeContext) -> None:
    found = normalization(context, context.node)
    if found is None or context.is_quantized:
        raise DeclinedError("BatchNormalization is offered for inference with constant parameters of real numbers")
    _scale_and_shift(context, context.x(0, _channels_last(context)), *found)


def _instance_norm(context: NodeContext) -> None:
    gain, shift = context.array(1), context.array(2)
    if len(context.shape()) != 4 or gain is None or shift is None:
        raise DeclinedError("InstanceNormalization is offered for four dimensions and constant parameters only")
    x = context.x(0, NHWC)
    numbers = ((1.0, "gamma"), (0.0, "beta"), (float(context.attr("epsilon", 1e-5)), "epsilon"))
    inputs = [x, *(context.scalar(number, x, name) for number, name in numbers), scalar_bool(False, "nchw")]
    _scale_and_shift(context, context.compute(Operation.INSTANCE_NORMALIZATION, inputs), gain, shift)


def _scale_and_shift(context: NodeContext, x: Operand, gain: Array, shift: Array) -> None:
    dtype = context.dtype().numpy
    weights = context.constant(gain.astype(dtype).reshape(-1), "gain")
    addend = context.constant(shift.astype(dtype).reshape(-1), "shift")
    scaled = context.compute(Operation.MUL, [x, weights, _none()])
    context.emit(Operation.ADD, [scaled, addend, context.fuse()], _channels_last(context))


def _channels_last(context: NodeContext) -> Order:
    rank = len(context.shape())
    if rank > 4:
        raise DeclinedError(f"{context.node.op_type} of more than four dimensions is not offered by Neuron")
    return (0, *range(2, rank), 1) if rank > 1 else (0,)


def _layer_norm(context: NodeContext) -> None:
    """(x - mean) / sqrt(mean((x - mean)²) + epsilon) * gain + shift."""
    shape, order = context.shape(), context.out_natural()
    axis = int(context.attr("axis", -1)) % len(shape)
    if sum(output is not None for output in context.node.outputs) != 1:
        raise DeclinedError("LayerNormalization with mean and deviation as results is not offered")
    if context.is_quantized or len(order) != len(shape):
        raise DeclinedError("LayerNormalization is offered for real numbers of up to four dimensions only")
    x = context.x(0)
    dtype, none = context.dtype().numpy, _none()
    reduced = (*shape[:axis], *((1,) * (len(shape) - axis)))
    over = [int32_vector(range(axis, len(shape)), "axes"), scalar_int(1, "keep_dims")]
    centered = context.compute(Operation.SUB, [x, context.compute(Operation.MEAN, [x, *over], reduced), none])
    square = context.compute(Operation.MUL, [centered, centered, none])
    variance = context.compute(Operation.MEAN, [square, *over], reduced)
    epsilon = context.constant(np.array([context.attr("epsilon", 1e-5)], dtype), "epsilon")
    spread = context.compute(Operation.RSQRT, [context.compute(Operation.ADD, [variance, epsilon, none])])
    made = context.compute(Operation.MUL, [centered, spread, none])
    steps = [(Operation.MUL, context.x(1))] + ([(Operation.ADD, context.x(2))] if context.has(2) else [])
    for operation, operand in steps[:-1]:
        made = context.compute(operation, [made, operand, none])
    context.emit(steps[-1][0], [made, steps[-1][1], context.fuse()], order)


def _none() -> Operand:
    return scalar_int(int(Fuse.NONE), "activation")


LOWERINGS.add(
    {
        "Softmax": _softmax,
        "BatchNormalization": _batch_norm,
        "InstanceNormalization": _instance_norm,
        "LayerNormalization": _layer_norm,
    }
)
