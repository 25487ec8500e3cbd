"""Logarithms, which Neuron does not have, of operations that it has."""

from __future__ import annotations

import math

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import Order
from mace_apu.lowering.reduction import reduced_dimensions
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.types import FLOATS
from mace_apu.lowering.values import int32_vector
from mace_apu.neuron.constants import Fuse, OperandCode, Operation


class Numbers:
    """Arithmetic on operands of one node."""

    def __init__(self, context: NodeContext) -> None:
        if context.is_quantized:
            raise DeclinedError(f"a quantized {context.node.op_type} is not offered")
        self.context = context
        self._none = scalar_int(int(Fuse.NONE), "activation")

    def full(self, like: Operand, value: float) -> Operand:
        dtype = np.float16 if like.code is OperandCode.TENSOR_FLOAT16 else np.float32
        return self.context.constant(np.full(like.shape, value, dtype), "number")

    def number(self, like: Operand, value: float) -> Operand:
        dtype = np.float16 if like.code is OperandCode.TENSOR_FLOAT16 else np.float32
        return self.context.constant(np.array([value], dtype), "number")

    def join(self, operation: Operation, left: Operand, right: Operand | float) -> Operand:
        """ADD, SUB, MUL or DIV."""
        other = self.number(left, right) if isinstance(right, float) else right
        shape = np.broadcast_shapes(left.shape, other.shape)
        return self.context.compute(operation, [left, other, self._none], shape)

    def apply(self, operation: Operation, x: Operand) -> Operand:
        return self.context.compute(operation, [x])

    def choose(self, operation: Operation, x: Operand, bound: float, yes: Operand, no: Operand) -> Operand:
        """``yes`` where ``x`` compares so with ``bound``, else ``no``."""
        flags = Operand(f"{self.context.node.name}.flags", OperandCode.TENSOR_BOOL8, x.shape)
        self.context.lowering.add(operation, [x, self.number(x, bound)], [flags])
        return self.select(flags, yes, no)

    def select(self, flags: Operand, yes: Operand, no: Operand) -> Operand:
        """``yes`` where a flag is set, else ``no``; all are of one shape."""
        made = self.context.temporary(flags.shape, yes, "selected")
        self.context.lowering.add(Operation.SELECT, [flags, yes, no], [made])
        return made

    def reduce(self, operation: Operation, x: Operand, places: list[int]) -> Operand:
        """Some dimensions become 1."""
        over = [int32_vector(places, "axes"), scalar_bool(True, "keep_dims")]
        shape = tuple(1 if place in places else size for place, size in enumerate(x.shape))
        return self.context.compute(operation, [x, *over], shape)

    def mean(self, x: Operand, places: list[int]) -> Operand:
        """The mean over some dimensions, which become 1."""
        over = [int32_vector(places, "axes"), scalar_int(1, "keep_dims")]
        shape = tuple(1 if place in places else size for place, size in enumerate(x.shape))
        return self.context.compute(Operation.MEAN, [x, *over], shape)

    def limit(self, x: Operand) -> float:
        """The largest number."""
        return float(np.finfo(np.float16 if self.context.is_half(x) else np.float32).max)

    def log_softmax(self, x: Operand, places: list[int]) -> Operand:
        """x - max - log(sum(exp(x - max)))."""
        below = self.join(Operation.SUB, x, self.reduce(Operation.REDUCE_MAX, x, places))
        total = self.reduce(Operation.REDUCE_SUM, self.apply(Operation.EXP, below), places)
        return self.join(Operation.SUB, below, self.logarithm(total))

    def logarithm(self, x: Operand) -> Operand:
        """log(x): a first guess from its n-th root s, n (2 z + 2/3 z³) with z = (s - 1) / (s + 1), which is less than
        0.2 wrong, then steps of Newton's method on exp(y) = x, each of which squares the error.

        exp(-y) is taken in two halves, since it is beyond float16 where x is small.
        """
        roots = 4 if self.context.is_half(x) else 8
        limit = self.limit(x)
        s = x
        for _ in range(roots):
            s = self.apply(Operation.SQRT, s)
        z = self.join(Operation.DIV, self.join(Operation.SUB, s, 1.0), self.join(Operation.ADD, s, 1.0))
        slope = self.join(Operation.ADD, self.join(Operation.MUL, self.join(Operation.MUL, z, z), 2 / 3), 2.0)
        y = self.join(Operation.MUL, self.join(Operation.MUL, z, slope), 2.0**roots)
        for _ in range(2):
            half = self.apply(Operation.EXP, self.join(Operation.MUL, y, -0.5))
            ratio = self.join(Operation.MUL, self.join(Operation.MUL, x, half), half)
            y = self.join(Operation.ADD, y, self.join(Operation.SUB, ratio, 1.0))
        y = self.choose(Operation.LESS_EQUAL, x, 0.0, self.full(x, -math.inf), y)
        y = self.choose(Operation.GREATER, x, limit, x, y)  # infinity
        return self.choose(Operation.LESS, x, 0.0, self.full(x, math.nan), y)


def _operand(context: NodeContext) -> tuple[Order, Operand]:
    order = context.order()
    x = context.x(0, order)
    if x.code not in FLOATS:
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered, only of real numbers")
    return order, x


def _log(context: NodeContext) -> None:
    numbers, (order, x) = Numbers(context), _operand(context)
    context.finish(numbers.logarithm(x), order)


def _log_softmax(context: NodeContext) -> None:
    numbers, (order, x), shape = Numbers(context), _operand(context), context.shape()
    old = context.lowering.view.opset() < 13
    axis = int(context.attr("axis", 1 if old else -1)) % len(shape)
    if axis not in order or (old and math.prod(shape[axis + 1 :]) != 1):
        raise DeclinedError("LogSoftmax along several axes, or of more than four dimensions, is not offered")
    context.finish(numbers.log_softmax(x, [order.index(axis)]), order)


def _reduce_log(context: NodeContext) -> None:
    """ReduceLogSum and ReduceLogSumExp; the largest exponent is taken out of the sum."""
    numbers, (_, x) = Numbers(context), _operand(context)
    _, places, laid = reduced_dimensions(context)
    if context.node.op_type == "ReduceLogSum":
        made = numbers.logarithm(numbers.reduce(Operation.REDUCE_SUM, x, places))
    else:
        most = numbers.reduce(Operation.REDUCE_MAX, x, places)  # kept finite, so that no difference is of infinities
        for operation, bound in ((Operation.MINIMUM, numbers.limit(x)), (Operation.MAXIMUM, -numbers.limit(x))):
            most = context.compute(operation, [most, numbers.number(x, bound)])
        parts = numbers.apply(Operation.EXP, numbers.join(Operation.SUB, x, most))
        total = numbers.reduce(Operation.REDUCE_SUM, parts, places)
        made = numbers.join(Operation.ADD, numbers.logarithm(total), most)
    context.finish(context.reshaped(made, context.new_result(laid).shape), laid)


def _softplus(numbers: Numbers, x: Operand) -> Operand:
    """max(x, 0) + log(1 + exp(-|x|)), where nothing is too large."""
    small = numbers.apply(Operation.EXP, numbers.apply(Operation.NEG, numbers.apply(Operation.ABS, x)))
    rest = numbers.logarithm(numbers.join(Operation.ADD, small, 1.0))
    return numbers.join(Operation.ADD, numbers.apply(Operation.RELU, x), rest)


def _softplus_and_mish(context: NodeContext) -> None:
    numbers, (order, x) = Numbers(context), _operand(context)
    made = _softplus(numbers, x)
    if context.node.op_type == "Mish":
        made = numbers.join(Operation.MUL, x, numbers.apply(Operation.TANH, made))
    context.finish(made, order)


LOWERINGS.add(
    {
        "Log": _log,
        "LogSoftmax": _log_softmax,
        "ReduceLogSum": _reduce_log,
        "ReduceLogSumExp": _reduce_log,
        "Softplus": _softplus_and_mish,
        "Mish": _softplus_and_mish,
    }
)
