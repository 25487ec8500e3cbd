"""Softmax and the normalizations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.activation import require_fixed_result
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.folding import normalization
from mace_apu.lowering.orders import NHWC, Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import Array, int32_vector
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from mace_core.tensor import DType

_FLOATS = (DType.FLOAT32, DType.FLOAT16)
_LEAST_HALF = 2.0**-23
"""Above 0 in float16 with any rounding."""

_LEAST_NORMAL_HALF = 2.0**-14

_FAR = 2.0**12
"""A mean in deviations from which on it is taken off first."""


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
    x, (gain, shift) = context.x(0, _channels_last(context)), found
    if context.is_half(x) and (np.abs(shift) > _FAR).any() and (gain != 0).all():
        # x * gain may be beyond float16 where x * gain + shift is not
        centered = context.compute(Operation.ADD, [x, _constants(context, shift / gain), _none()])
        context.emit(Operation.MUL, [centered, _constants(context, gain), context.fuse()], _channels_last(context))
        return
    _scale_and_shift(context, x, gain, shift)


def _instance_norm(context: NodeContext) -> None:
    gain, shift = context.array(1), context.array(2)
    if len(context.shape()) != 4 or gain is None or shift is None:
        _group_norm(context)
        return
    x = context.x(0, NHWC)
    numbers = ((1.0, "gamma"), (0.0, "beta"), (float(context.attr("epsilon", 1e-5)), "epsilon"))
    inputs = [x, *(context.scalar(number, x, name) for number, name in numbers), scalar_bool(False, "nchw")]
    _scale_and_shift(context, context.compute(Operation.INSTANCE_NORMALIZATION, inputs), gain, shift)


def _scale_and_shift(context: NodeContext, x: Operand, gain: Array, shift: Array) -> None:
    scaled = context.compute(Operation.MUL, [x, _constants(context, gain), _none()])
    context.emit(Operation.ADD, [scaled, _constants(context, shift), context.fuse()], _channels_last(context))


def _constants(context: NodeContext, numbers: Array) -> Operand:
    return context.constant(numbers.astype(context.dtype().numpy).reshape(-1), "numbers")


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
    _require_plain(context)
    centered = context.node.op_type == "LayerNormalization"
    epsilon = float(context.attr("epsilon", 1e-5))
    made = standardized(context, context.x(0), range(axis, len(shape)), epsilon, centered=centered)
    steps = [(Operation.MUL, context.x(1))] + ([(Operation.ADD, context.x(2))] if context.has(2) else [])
    for operation, operand in steps[:-1]:
        made = context.compute(operation, [made, operand, _none()])
    context.emit(steps[-1][0], [made, steps[-1][1], context.fuse()], order)


def _mean_variance_norm(context: NodeContext) -> None:
    _require_plain(context)
    rank = len(context.shape())
    axes = sorted({axis % rank for axis in context.attr("axes", (0, 2, 3))})
    x = context.x(0)
    made = standardized(context, x, axes, 1e-18)
    context.finish(made, context.out_natural())


def _group_norm(context: NodeContext) -> None:
    """Groups of channels by themselves, then a gain and a shift for each channel."""
    shape, is_grouped = context.shape(), context.node.op_type == "GroupNormalization"
    _require_plain(context)
    channels = shape[1]
    groups = int(context.attr("num_groups")) if is_grouped else channels
    if context.shape(1) != (channels,):
        raise DeclinedError("GroupNormalization with a gain for each group, as until opset 20, is not offered")
    rows = context.reshaped(context.x(0), (shape[0], groups, math.prod(shape[1:]) // groups))
    made = context.reshaped(standardized(context, rows, (2,), float(context.attr("epsilon", 1e-5))), shape)
    along = (channels, *((1,) * (len(shape) - 2)))
    gain, shift = (context.reshaped(context.x(index), along) for index in (1, 2))
    scaled = context.compute(Operation.MUL, [made, gain, _none()])
    context.emit(Operation.ADD, [scaled, shift, context.fuse()], context.out_natural())


def _require_plain(context: NodeContext) -> None:
    natural = context.lowering.natural(context.operand(0))
    if context.is_quantized or len(natural) != len(context.shape()) or context.dtype() not in _FLOATS:
        raise DeclinedError(f"{context.node.op_type} is offered for real numbers of up to four dimensions only")


def standardized(
    context: NodeContext, x: Operand, places: Sequence[int], epsilon: float, *, centered: bool = True
) -> Operand:
    """(x - mean) / sqrt(mean((x - mean)²) + epsilon) over some dimensions of ``x``; mean is 0 if not ``centered``.

    In float16 the squares of numbers beyond 255 are infinite: there the largest number is made 1 first.
    """
    none, reduced = _none(), tuple(1 if place in places else size for place, size in enumerate(x.shape))
    over = [int32_vector(places, "axes"), scalar_int(1, "keep_dims")]
    if centered:
        x = context.compute(Operation.SUB, [x, context.compute(Operation.MEAN, [x, *over], reduced), none])
    addend = _number(context, x, max(epsilon, _LEAST_HALF) if context.is_half(x) else epsilon)
    if context.is_half(x):
        largest = context.compute(Operation.MAXIMUM, [_largest(context, x, places, reduced), _number(context, x, 1.0)])
        x = context.compute(Operation.DIV, [x, largest, none])
        addend = context.compute(Operation.DIV, [addend, largest, none], reduced)
        addend = context.compute(Operation.DIV, [addend, largest, none])
    square = context.compute(Operation.MUL, [x, x, none])
    variance = context.compute(Operation.MEAN, [square, *over], reduced)
    spread = context.compute(Operation.RSQRT, [context.compute(Operation.ADD, [variance, addend, none])])
    return context.compute(Operation.MUL, [x, spread, none])


def root_of_squares(context: NodeContext, x: Operand, places: Sequence[int]) -> Operand:
    """sqrt(sum(x²)) over some dimensions, which stay; in float16 the largest number is made 1 first."""
    none, reduced = _none(), tuple(1 if place in places else size for place, size in enumerate(x.shape))
    over = [int32_vector(places, "axes"), scalar_bool(True, "keep_dims")]
    largest = None
    if context.is_half(x):
        least = _number(context, x, _LEAST_NORMAL_HALF)
        largest = context.compute(Operation.MAXIMUM, [_largest(context, x, places, reduced), least])
        x = context.compute(Operation.DIV, [x, largest, none])
    total = context.compute(Operation.REDUCE_SUM, [context.compute(Operation.MUL, [x, x, none]), *over], reduced)
    root = context.compute(Operation.SQRT, [total])
    return root if largest is None else context.compute(Operation.MUL, [root, largest, none])


def _largest(context: NodeContext, x: Operand, places: Sequence[int], reduced: tuple[int, ...]) -> Operand:
    over = [int32_vector(places, "axes"), scalar_bool(True, "keep_dims")]
    return context.compute(Operation.REDUCE_MAX, [context.compute(Operation.ABS, [x]), *over], reduced)


def _number(context: NodeContext, like: Operand, number: float) -> Operand:
    dtype = np.float16 if like.code is OperandCode.TENSOR_FLOAT16 else np.float32
    return context.constant(np.array([number], dtype), "number")


def _lp_norm(context: NodeContext) -> None:
    """x over its sum of magnitudes, or over the root of its squares; 0 where that is 0."""
    _require_plain(context)
    axis, x, none = int(context.attr("axis", -1)) % len(context.shape()), context.x(0), _none()
    reduced = tuple(1 if place == axis else size for place, size in enumerate(x.shape))
    if int(context.attr("p", 2)) == 2:
        norm = root_of_squares(context, x, (axis,))
    else:
        over = [int32_vector((axis,), "axes"), scalar_bool(True, "keep_dims")]
        norm = context.compute(Operation.REDUCE_SUM, [context.compute(Operation.ABS, [x]), *over], reduced)
    least = _number(context, x, _LEAST_HALF if context.is_half(x) else float(np.finfo(np.float32).tiny))
    context.emit(Operation.DIV, [x, context.compute(Operation.MAXIMUM, [norm, least]), none], context.out_natural())


def _none() -> Operand:
    return scalar_int(int(Fuse.NONE), "activation")


LOWERINGS.add(
    {
        "Softmax": _softmax,
        "BatchNormalization": _batch_norm,
        "InstanceNormalization": _instance_norm,
        "LayerNormalization": _layer_norm,
        "RMSNormalization": _layer_norm,
        "MeanVarianceNormalization": _mean_variance_norm,
        "GroupNormalization": _group_norm,
        "LpNormalization": _lp_norm,
    }
)
