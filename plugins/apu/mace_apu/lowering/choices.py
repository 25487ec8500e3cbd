"""Operators that choose between numbers by comparing them."""

from __future__ import annotations

import numpy as np

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.broadcasting import broadcast
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import FLOATS
from mace_apu.lowering.values import Array
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from mace_core.tensor import DType


def _none() -> Operand:
    return scalar_int(int(Fuse.NONE), "activation")


def _full(context: NodeContext, like: Operand, number: float) -> Operand:
    """A constant of the shape and type of ``like``: a selection takes operands of one shape."""
    dtype = {OperandCode.TENSOR_FLOAT16: np.float16, OperandCode.TENSOR_INT32: np.int32}.get(like.code, np.float32)
    return context.constant(np.full(like.shape, number, dtype), "choice")


def _number(context: NodeContext, like: Operand, number: float) -> Operand:
    dtype = {OperandCode.TENSOR_FLOAT16: np.float16, OperandCode.TENSOR_INT32: np.int32}.get(like.code, np.float32)
    return context.constant(np.array([number], dtype), "number")


def _compare(context: NodeContext, operation: Operation, left: Operand, right: Operand) -> Operand:
    shape = np.broadcast_shapes(left.shape, right.shape)
    flags = Operand(f"{context.node.name}.{operation.name.lower()}", OperandCode.TENSOR_BOOL8, shape)
    context.lowering.add(operation, [left, right], [flags])
    return flags


def _select(context: NodeContext, flags: Operand, yes: Operand, no: Operand) -> Operand:
    made = context.temporary(flags.shape, yes, "selected")
    context.lowering.add(Operation.SELECT, [flags, yes, no], [made])
    return made


def _real(context: NodeContext) -> tuple[Order, Operand]:
    order = context.order()
    x = context.x(0, order)
    if context.is_quantized or x.code not in FLOATS:
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered, only of real numbers")
    return order, x


def _sign(context: NodeContext) -> None:
    order = context.order()
    x = context.x(0, order)
    if context.is_quantized:
        raise DeclinedError("a quantized Sign is not offered")
    zero = _number(context, x, 0)
    below = _select(context, _compare(context, Operation.LESS, x, zero), _full(context, x, -1), _full(context, x, 0))
    above = _compare(context, Operation.GREATER, x, zero)
    context.emit(Operation.SELECT, [above, _full(context, x, 1), below], order)


def _is_nan(context: NodeContext) -> None:
    """What is not equal to itself."""
    order, x = _real(context)
    context.emit(Operation.NOT_EQUAL, [x, x], order)


def _round(context: NodeContext) -> None:
    """To the nearest integer, of two to the even one: floor(x), and 1 more where what is above it says so."""
    order, x = _real(context)
    none, one, zero = _none(), _full(context, x, 1), _full(context, x, 0)
    below = context.compute(Operation.FLOOR, [x])
    rest = context.compute(Operation.SUB, [x, below, none])
    half = context.compute(Operation.MUL, [below, _number(context, x, 0.5), none])
    odd = _compare(context, Operation.NOT_EQUAL, half, context.compute(Operation.FLOOR, [half]))
    middle = _number(context, x, 0.5)
    tie = Operand(f"{context.node.name}.tie", OperandCode.TENSOR_BOOL8, x.shape)
    equal = _compare(context, Operation.EQUAL, rest, middle)
    context.lowering.add(Operation.LOGICAL_AND, [equal, odd], [tie])
    more = Operand(f"{context.node.name}.more", OperandCode.TENSOR_BOOL8, x.shape)
    context.lowering.add(Operation.LOGICAL_OR, [_compare(context, Operation.GREATER, rest, middle), tie], [more])
    context.emit(Operation.ADD, [below, _select(context, more, one, zero), none], order)


def _shrink(context: NodeContext) -> None:
    order, x = _real(context)
    bias, limit = float(context.attr("bias", 0.0)), float(context.attr("lambd", 0.5))
    below = context.compute(Operation.ADD, [x, _number(context, x, bias), _none()])
    above = context.compute(Operation.SUB, [x, _number(context, x, bias), _none()])
    low = _select(
        context, _compare(context, Operation.LESS, x, _number(context, x, -limit)), below, _full(context, x, 0)
    )
    high = _compare(context, Operation.GREATER, x, _number(context, x, limit))
    context.emit(Operation.SELECT, [high, above, low], order)


def _mean(context: NodeContext) -> None:
    """Each is divided before they are added, so that no sum is larger than the result may be."""
    if context.is_quantized or context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"Mean of {context.dtype().label} is not offered, only of real numbers")
    count, none = len(context.node.inputs), _none()
    order, operands = broadcast(context, range(count))
    parts = [context.compute(Operation.MUL, [each, _number(context, each, 1 / count), none]) for each in operands]
    total = parts[0]
    for part in parts[1:-1]:
        total = context.compute(Operation.ADD, [total, part, none], np.broadcast_shapes(total.shape, part.shape))
    if count == 1:
        raise DeclinedError("Mean of one operand is left to the core")
    context.emit(Operation.ADD, [total, parts[-1], context.fuse()], order)


def _trilu(context: NodeContext) -> None:
    shape, order = context.shape(), context.out_natural()
    x = context.x(0)
    if context.is_quantized or x.code is OperandCode.TENSOR_BOOL8 or len(order) != len(shape):
        raise DeclinedError(f"Trilu of {context.dtype().label} or of more than four dimensions is not offered")
    rows, columns = shape[-2:]
    places = np.arange(columns, dtype=np.int32) - np.arange(rows, dtype=np.int32)[:, None]
    diagonal = context.x(1) if context.has(1) else context.constant(np.zeros(1, np.int32), "diagonal")
    operation = Operation.GREATER_EQUAL if context.attr("upper", 1) else Operation.LESS_EQUAL
    spread = np.ascontiguousarray(np.broadcast_to(places, shape))
    flags = _compare(context, operation, context.constant(spread, "places"), diagonal)
    context.emit(Operation.SELECT, [flags, x, _full(context, x, 0)], order)


def _one_hot(context: NodeContext) -> None:
    """Numbers from 0 to the depth, compared with the indices; those below 0 are counted from the end."""
    depth, values, shape = context.array(1), context.array(2), context.shape()
    rank = len(shape) + 1
    axis = int(context.attr("axis", -1)) % rank
    if depth is None or values is None or context.dtype() not in (DType.INT32, DType.INT64) or rank > 4:
        raise DeclinedError("OneHot is offered for integers, a constant depth and constant values, and up to four "
                            "dimensions of the result")  # fmt: skip
    count = int(depth.reshape(-1)[0])
    along = [1] * rank
    along[axis] = count
    result = context.new_result()
    indices = context.reshaped(context.x(0), (*shape[:axis], 1, *shape[axis:]))
    places = np.arange(count, dtype=np.int32).reshape(along)
    either = Operand(f"{context.node.name}.hot", OperandCode.TENSOR_BOOL8, result.shape)
    sides = [_compare(context, Operation.EQUAL, indices, context.constant(each, "places"))
             for each in (places, places - count)]  # fmt: skip
    context.lowering.add(Operation.LOGICAL_OR, sides, [either])
    off, on = (np.full(result.shape, each, values.dtype) for each in values.reshape(-1))
    context.lowering.add(Operation.SELECT, [either, context.constant(on, "on"), context.constant(off, "off")], [result])
    context.finish(result)


def _hardmax(context: NodeContext) -> None:
    """1 at the first largest number of each row, else 0."""
    shape, old = context.shape(), context.lowering.view.opset() < 13
    axis = int(context.attr("axis", 1 if old else -1)) % len(shape)
    order = context.out_natural()
    x = context.x(0)
    if context.is_quantized or x.code not in FLOATS or len(order) != len(shape) or (old and axis != len(shape) - 1):
        raise DeclinedError("Hardmax is offered for real numbers along one axis of up to four dimensions")
    rows = (*shape[:axis], *shape[axis + 1 :]) or (1,)
    where = scalar_int(axis, "axis")
    first = Operand(f"{context.node.name}.first", OperandCode.TENSOR_INT32, rows)
    context.lowering.add(Operation.ARGMAX, [x, where], [first])
    if len(shape) > 1:
        kept = context.temporary((*shape[:axis], 1, *shape[axis + 1 :]), first, "kept")
        context.lowering.add(Operation.EXPAND_DIMS, [first, where], [kept])
        first = kept
    along = [1] * len(shape)
    along[axis] = shape[axis]
    places: Array = np.arange(shape[axis], dtype=np.int32).reshape(along)
    flags = _compare(context, Operation.EQUAL, first, context.constant(places, "places"))
    context.emit(Operation.SELECT, [flags, _full(context, x, 1), _full(context, x, 0)], order)


LOWERINGS.add(
    {
        "Sign": _sign,
        "IsNaN": _is_nan,
        "Round": _round,
        "Shrink": _shrink,
        "Mean": _mean,
        "Trilu": _trilu,
        "OneHot": _one_hot,
        "Hardmax": _hardmax,
    }
)
