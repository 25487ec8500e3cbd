"""Functions of two tensors, broadcast against each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_ARITHMETIC = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div"}


@converter("ADD", options="AddOptions")
@converter("SUB", options="SubOptions")
@converter("MUL", options="MulOptions")
@converter("DIV", options="DivOptions")
def arithmetic(op: Operation) -> None:
    """Whole numbers are divided toward zero in both."""
    found = op.emit(_ARITHMETIC[op.file.builtin], [op.real(0), op.real(1)])
    op.finish(op.activated(found, op.option("FusedActivationFunction")))


_SAME_NAME = {
    "BITWISE_XOR": "BitwiseXor",
    "LOGICAL_AND": "And",
    "LOGICAL_OR": "Or",
    "MAXIMUM": "Max",
    "MINIMUM": "Min",
    "POW": "Pow",
}


@converter(*_SAME_NAME)
def same(op: Operation) -> None:
    """What ONNX has under another spelling."""
    op.finish(op.emit(_SAME_NAME[op.file.builtin], [op.real(0), op.real(1)]))


@converter("SQUARED_DIFFERENCE")
def squared_difference(op: Operation) -> None:
    difference = op.emit("Sub", [op.real(0), op.real(1)])
    op.finish(op.emit("Mul", [difference, difference]))


@converter("ADD_N")
def total(op: Operation) -> None:
    op.finish(op.emit("Sum", [op.real(index) for index in range(op.count)]))


@converter("FLOOR_DIV")
def floor_divided(op: Operation) -> None:
    """Rounded down; ONNX divides whole numbers toward zero."""
    if op.dtype(0).is_float:
        op.finish(op.emit("Floor", [op.emit("Div", [op.real(0), op.real(1)])]))
    else:
        op.keep(_floor_divided(op, op.stored(0), op.stored(1), op.dtype(0)))


def _floor_divided(op: Operation, a: Value, b: Value, dtype: DType) -> Value:
    quotient = op.emit("Div", [a, b])
    if dtype.name.startswith("UINT"):
        return quotient
    zero = op.number(0, dtype.numpy)
    rest = op.emit("Sub", [a, op.emit("Mul", [quotient, b])])
    signs = op.emit("Xor", [op.emit("Less", [rest, zero]), op.emit("Less", [b, zero])])
    is_more = op.emit("And", [signs, op.emit("Not", [op.emit("Equal", [rest, zero])])])
    return op.emit("Sub", [quotient, op.cast(is_more, dtype)])


@converter("FLOOR_MOD")
def floor_remainder(op: Operation) -> None:
    """With the sign of the divisor."""
    a, b = op.real(0), op.real(1)
    if not op.dtype(0).is_float:
        op.finish(op.emit("Mod", [a, b], {"fmod": 0}))
        return
    rest = op.emit("Mod", [a, b], {"fmod": 1})
    zero = op.like(0)
    signs = op.emit("Xor", [op.emit("Less", [rest, zero]), op.emit("Less", [b, zero])])
    is_other = op.emit("And", [signs, op.emit("Not", [op.emit("Equal", [rest, zero])])])
    op.finish(op.emit("Where", [is_other, op.emit("Add", [rest, b]), rest]))


@converter("ATAN2")
def angle(op: Operation) -> None:
    """Of (x, y), from the arc tangent of y / x and the half plane."""
    op.finish(angle_of(op, op.real(0), op.real(1), op.dtype(0).numpy))


def angle_of(op: Operation, y: Value, x: Value, dtype: npt.DTypeLike) -> Value:
    """The angle of (x, y), from -pi to pi."""
    zero, half = op.number(0, dtype), op.number(np.pi, dtype)
    arc = op.emit("Atan", [op.emit("Div", [y, x])])
    turn = op.emit("Where", [op.emit("Less", [y, zero]), op.emit("Neg", [half]), half])
    turned = op.emit("Where", [op.emit("Less", [x, zero]), op.emit("Add", [arc, turn]), arc])
    is_origin = op.emit("And", [op.emit("Equal", [x, zero]), op.emit("Equal", [y, zero])])
    return op.emit("Where", [is_origin, zero, turned])


@converter("RIGHT_SHIFT")
def shifted(op: Operation) -> None:
    """Of signed numbers, whose sign is kept: a division by a power of 2, rounded down."""
    dtype = op.dtype(0)
    if dtype.name.startswith("UINT"):
        op.keep(op.emit("BitShift", [op.stored(0), op.stored(1)], {"direction": "RIGHT"}))
        return
    wide = DType.INT64
    power = op.emit("BitShift", [op.number(1, np.uint64), op.cast(op.stored(1), DType.UINT64)], {"direction": "LEFT"})
    found = _floor_divided(op, op.cast(op.stored(0), wide), op.cast(power, wide), wide)
    op.keep(op.cast(found, dtype))
