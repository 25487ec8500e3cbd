"""Operators of real numbers that are made of several operations."""

from __future__ import annotations

import math

import numpy as np

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.table import LOWERINGS
from mace_apu.neuron.constants import Fuse, Operation
from mace_core.tensor import DType


class _Steps:
    """Operations on operand 0, one after the other, in the order that it is in."""

    def __init__(self, context: NodeContext) -> None:
        if context.is_quantized or context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
            raise DeclinedError(f"{context.node.op_type} is offered for real numbers only, not quantized ones")
        self.context = context
        self.order = context.order()
        self.x = context.x(0, self.order)
        self._none = scalar_int(int(Fuse.NONE), "activation")

    def number(self, value: float) -> Operand:
        """A constant."""
        return self.context.constant(np.array([value], self.context.dtype().numpy), "number")

    def add(self, left: Operand, right: Operand | float) -> Operand:
        return self._fusing(Operation.ADD, left, right)

    def multiply(self, left: Operand, right: Operand | float) -> Operand:
        return self._fusing(Operation.MUL, left, right)

    def compute(self, operation: Operation, *operands: Operand | float) -> Operand:
        """An operation without an activation."""
        held = [self.number(each) if isinstance(each, float) else each for each in operands]
        return self.context.compute(operation, held)

    def finish(self, operation: Operation, left: Operand, right: Operand | float) -> None:
        """The operation that makes the result, which may end with an activation."""
        other = self.number(right) if isinstance(right, float) else right
        self.context.emit(operation, [left, other, self.context.fuse()], self.order)

    def _fusing(self, operation: Operation, left: Operand, right: Operand | float) -> Operand:
        other = self.number(right) if isinstance(right, float) else right
        return self.context.compute(operation, [left, other, self._none])


def _elu(context: NodeContext) -> None:
    """gamma * (max(x, 0) + alpha * (exp(min(x, 0) / scale) - 1)), in its three forms."""
    steps, name = _Steps(context), context.node.op_type
    alpha = float(context.attr("alpha", 1.67326319217681884765625 if name == "Selu" else 1.0))
    gamma = float(context.attr("gamma", 1.05070102214813232421875)) if name == "Selu" else 1.0
    below = steps.compute(Operation.MINIMUM, steps.x, 0.0)
    if name == "Celu":
        below = steps.multiply(below, 1 / alpha)
    below = steps.multiply(steps.add(steps.compute(Operation.EXP, below), -1.0), alpha)
    above = steps.compute(Operation.RELU, steps.x)
    if gamma == 1.0:
        steps.finish(Operation.ADD, above, below)
    else:
        steps.finish(Operation.MUL, steps.add(above, below), gamma)


def _softsign(context: NodeContext) -> None:
    """x / (1 + |x|)."""
    steps = _Steps(context)
    steps.finish(Operation.DIV, steps.x, steps.add(steps.compute(Operation.ABS, steps.x), 1.0))


def _gelu(context: NodeContext) -> None:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))): the approximation; Neuron has no error function."""
    if context.attr("approximate", "none") != "tanh":
        raise DeclinedError("Gelu is offered in its approximated form only: Neuron has no error function")
    steps = _Steps(context)
    square = steps.multiply(steps.x, steps.x)
    slope = steps.add(steps.multiply(square, 0.044715 * math.sqrt(2 / math.pi)), math.sqrt(2 / math.pi))
    gate = steps.add(steps.compute(Operation.TANH, steps.multiply(steps.x, slope)), 1.0)
    steps.finish(Operation.MUL, steps.multiply(steps.x, 0.5), gate)


LOWERINGS.add({**dict.fromkeys(("Elu", "Celu", "Selu"), _elu), "Softsign": _softsign, "Gelu": _gelu})
