"""Arithmetic and comparisons, element by element; they keep whatever order their operands are in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.broadcasting import broadcast
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import scale_and_zero
from mace_apu.neuron.constants import Fuse, Operation
from mace_core.tensor import DType

_UNARY = {
    "Sqrt": Operation.SQRT,
    "Exp": Operation.EXP,
    "Abs": Operation.ABS,
    "Neg": Operation.NEG,
    "Floor": Operation.FLOOR,
    "Not": Operation.LOGICAL_NOT,
}

_FUSING = {
    "Add": Operation.ADD,
    "Sum": Operation.ADD,
    "Sub": Operation.SUB,
    "Mul": Operation.MUL,
    "Div": Operation.DIV,
}

_PLAIN = {
    "Pow": Operation.POW,
    "Max": Operation.MAXIMUM,
    "Min": Operation.MINIMUM,
    "Equal": Operation.EQUAL,
    "Less": Operation.LESS,
    "LessOrEqual": Operation.LESS_EQUAL,
    "Greater": Operation.GREATER,
    "GreaterOrEqual": Operation.GREATER_EQUAL,
    "Xor": Operation.NOT_EQUAL,
    "And": Operation.LOGICAL_AND,
    "Or": Operation.LOGICAL_OR,
}

_FLOATS = (DType.FLOAT32, DType.FLOAT16)


def _unary(context: NodeContext) -> None:
    order = context.order()
    _require_no_long(context)
    context.emit(_UNARY[context.node.op_type], [context.x(0, order)], order)


def _fusing(context: NodeContext) -> None:
    if context.node.op_type != "Sum":
        _require_two(context)
    if not context.is_quantized and context.dtype() not in _FLOATS:
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered, only of real numbers")
    order, operands = broadcast(context, range(len(context.node.inputs)))
    if context.is_quantized:
        _require_steps(context, operands)
    operation = _FUSING[context.node.op_type]
    none = scalar_int(int(Fuse.NONE), "activation")
    context.emit(operation, [*_last_pair(context, operation, operands, [none]), context.fuse()], order)


def _last_pair(
    context: NodeContext, operation: Operation, operands: list[Operand], more: Sequence[Operand] = ()
) -> list[Operand]:
    """The two operands of the last of as many operations as it takes to join all."""
    if len(operands) == 1:
        raise DeclinedError(f"{context.node.op_type} of one operand is left to the core")
    if len(operands) > 2 and context.is_quantized:
        raise DeclinedError(f"a quantized {context.node.op_type} of more than two operands is not offered by Neuron")
    first, *rest = operands
    for operand in rest[:-1]:
        shape = np.broadcast_shapes(first.shape, operand.shape)
        first = context.compute(operation, [first, operand, *more], shape)
    return [first, rest[-1]]


def _require_steps(context: NodeContext, operands: list[Operand]) -> None:
    encoding = context.out_encoding()
    product = operands[0].scale * operands[1].scale
    if context.node.op_type == "Mul" and encoding is not None and scale_and_zero(encoding)[0] <= product:
        raise DeclinedError(
            "a quantized Mul needs a result of a larger scale than the product of those of its operands in Neuron"
        )


def _plain(context: NodeContext) -> None:
    variadic = context.node.op_type in ("Max", "Min")
    if not variadic:
        _require_two(context)
    if context.node.op_type == "Pow" and _power(context):
        return
    order, operands = broadcast(context, range(len(context.node.inputs)))
    if len({operand.code for operand in operands}) > 1:
        raise DeclinedError(f"{context.node.op_type} of two types is not offered by Neuron")
    operation = _PLAIN[context.node.op_type]
    context.emit(operation, _last_pair(context, operation, operands), order)


def _power(context: NodeContext) -> bool:
    """Squares and roots, which are exact where a general power is not."""
    exponent = None if context.is_quantized else context.array(1)
    if exponent is None or exponent.size != 1 or context.out_shape() != context.shape():
        return False
    order, number = context.order(), float(exponent.reshape(-1)[0])
    x = context.x(0, order)
    if number == 2.0:
        context.emit(Operation.MUL, [x, x, context.fuse()], order)
    elif number == 0.5:
        context.emit(Operation.SQRT, [x], order)
    elif number == -0.5:
        context.emit(Operation.RSQRT, [x], order)
    else:
        return False
    return True


def _reciprocal(context: NodeContext) -> None:
    order = context.order()
    x = context.x(0, order)
    one = context.constant(np.ones(1, context.dtype().numpy), "one")
    context.emit(Operation.DIV, [one, x, context.fuse()], order)


def _ceil(context: NodeContext) -> None:
    order = context.order()
    below = context.compute(Operation.FLOOR, [context.compute(Operation.NEG, [context.x(0, order)])])
    context.emit(Operation.NEG, [below], order)


def _where(context: NodeContext) -> None:
    order, operands = broadcast(context, (0, 1, 2))
    shape = context.new_result(order).shape
    context.emit(Operation.SELECT, [_spread(context, operand, shape) for operand in operands], order)


def _spread(context: NodeContext, operand: Operand, shape: tuple[int, ...]) -> Operand:
    """``operand`` repeated to ``shape``: a selection takes operands of one shape."""
    if operand.shape == shape:
        return operand
    full = context.reshaped(operand, (1,) * (len(shape) - len(operand.shape)) + operand.shape)
    if full.data is not None:
        spread = context.lowering.like(full, full.name, shape)
        spread.data = np.ascontiguousarray(np.broadcast_to(full.data, shape))
        return spread
    return context.compute(Operation.TILE, [full, context.repeats(full.shape, shape)], shape)


def _cast(context: NodeContext) -> None:
    order = context.order()
    source, target = context.dtype(), context.lowering.dtype(context.result())
    x = context.x(0, order)
    if target is DType.BOOL and source is not DType.BOOL:
        context.emit(Operation.NOT_EQUAL, [x, context.constant(np.zeros(1, source.numpy), "zero")], order)
    elif source is DType.BOOL and target in (*_FLOATS, DType.INT32, DType.INT64):
        ones, zeros = np.ones(x.shape, target.numpy), np.zeros(x.shape, target.numpy)
        context.emit(Operation.SELECT, [x, context.constant(ones, "one"), context.constant(zeros, "zero")], order)
    elif source in (*_FLOATS, DType.INT32, DType.INT64) and target in (*_FLOATS, DType.INT32):
        context.emit(Operation.CAST, [x], order)
    else:
        raise DeclinedError(f"Cast of {source.label} to {target.label} is not offered by Neuron")


def _require_two(context: NodeContext) -> None:
    if sum(value is not None for value in context.node.inputs) != 2:
        raise DeclinedError(f"{context.node.op_type} of other than two operands is not offered by Neuron")


def _require_no_long(context: NodeContext) -> None:
    if context.dtype() is DType.INT64:
        raise DeclinedError("computing with 64-bit integers is not offered by Neuron")


LOWERINGS.add(
    {
        **dict.fromkeys(_UNARY, _unary),
        **dict.fromkeys(_FUSING, _fusing),
        **dict.fromkeys(_PLAIN, _plain),
        "Reciprocal": _reciprocal,
        "Ceil": _ceil,
        "Where": _where,
        "Cast": _cast,
    }
)
