"""Operators that treat every element alike: arithmetic, comparison, logic, bits, choice, conversion."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Array, Source

DOMAINS = {
    "Acos": (-1, 1), "Asin": (-1, 1), "Atanh": (-0.875, 0.875), "Acosh": (1, 9), "Log": (0.125, 9), "Sqrt": (0, 9),
    "Tan": (-1.5, 1.5), "Exp": (-8, 8), "Cosh": (-6, 6), "Sinh": (-6, 6), "Reciprocal": (0.125, 4),
}  # fmt: skip
"""The range of inputs in which an operator has a result and is not too steep to compare."""


@draws(
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Log"),
    *("Neg", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan", "Tanh", "Identity"),
)
def unary(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    low, high = DOMAINS.get(op, (-4, 4))
    x = source.array(source.shape(), dtype, low, high, 0.125)
    if op in ("Abs", "Neg", "Identity", "Ceil", "Floor", "Round", "Sqrt", "Exp", "Tanh") and source.rarely(4):
        # the sign of NaN is not defined
        x = source.extremes(source.special(x))
    if op == "Reciprocal" and source.flag():
        x = -x
    return OpCase(op, opset, (x,))


@draws("IsNaN", "IsInf")
def classify(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = source.special(source.array(source.shape(), source.dtype(op, opset)))
    attributes = {}
    if op == "IsInf":
        attributes = {k: int(source.flag()) for k in ("detect_negative", "detect_positive") if source.flag()}
    return OpCase(op, opset, (x,), attributes)


@draws("Not", "BitwiseNot")
def complement(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    return OpCase(op, opset, (source.extremes(source.array(source.shape(), source.dtype(op, opset))),))


def _pair(source: Source, dtype: np.dtype[Any], low: float = -4, high: float = 4) -> tuple[Array, Array]:
    """Two arrays whose shapes broadcast."""
    shape = source.shape()
    left, right = source.broadcast(shape), source.broadcast(shape)
    return source.array(left, dtype, low, high), source.array(right, dtype, low, high)


@draws("Add", "Sub", "Mul")
def arithmetic(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    a, b = _pair(source, source.dtype(op, opset))
    if source.rarely(4):
        # whole numbers wrap around, floats follow IEEE 754
        a = source.extremes(source.special(a))
    return OpCase(op, opset, (a, b))


@draws("Div", "Mod")
def division(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    a, b = _pair(source, dtype)
    if dtype.kind in "iu" or op == "Mod":
        b = np.where(b == 0, np.ones_like(b), b)
    attributes = {}
    if op == "Mod" and (dtype.kind == "f" or source.flag()):
        attributes["fmod"] = 1
    return OpCase(op, opset, (a, b), attributes)


@draws("Pow")
def power(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    # from opset 12 on the exponent has a type of its own
    exponents = source.dtype(op, opset, 1) if opset >= 12 else dtype
    shape = source.shape()
    whole = dtype.kind in "iu" or exponents.kind in "iu"
    a = source.array(source.broadcast(shape), dtype, -3 if whole else 0.25, 3, 1 if whole else 0.25)
    low = 0 if whole else -3
    b = source.array(source.broadcast(shape), exponents, low, 3, 1 if whole else 0.5)
    return OpCase(op, opset, (a, b), tolerance=None)


@draws("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def comparison(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    a, b = _pair(source, source.dtype(op, opset), -1, 1)
    if source.rarely(4):
        a, b = source.extremes(source.special(a)), source.extremes(source.special(b))
    return OpCase(op, opset, (a, b))


@draws("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def logic(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    a, b = _pair(source, source.dtype(op, opset), -100, 100)
    return OpCase(op, opset, (a, source.extremes(b)))


@draws("BitShift")
def shift(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape()
    a = source.extremes(source.array(source.broadcast(shape), dtype, 0, 200))
    # shifting by as many bits as there are is undefined
    b = source.array(source.broadcast(shape), dtype, 0, 8 * dtype.itemsize - 1)
    return OpCase(op, opset, (a, b), {"direction": source.pick(["LEFT", "RIGHT"])})


@draws("Max", "Min", "Mean", "Sum")
def variadic(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    shape = source.shape()
    inputs = [source.array(source.broadcast(shape), dtype) for _ in range(source.integer(1, 4))]
    if op in ("Max", "Min") and source.rarely(4):
        inputs[0] = source.extremes(source.special(inputs[0]))
    return OpCase(op, opset, tuple(inputs))


@draws("Where")
def where(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset, 1)
    shape = source.shape()
    condition = source.array(source.broadcast(shape), bool)
    a = source.array(source.broadcast(shape), dtype)
    b = source.array(source.broadcast(shape), dtype)
    return OpCase(op, opset, (condition, source.special(a), b))


@draws("Clip")
def clip(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    x = source.array(source.shape(), dtype)
    if source.rarely(4):
        x = source.extremes(source.special(x))
    # a minimum above the maximum is allowed only since opset 13
    low, high = sorted((source.integer(-3, 3), source.integer(-3, 3)))
    if dtype.kind == "u":
        low, high = low + 3, high + 3
    if opset < 11:
        bounds = {"min": float(low), "max": float(high)}
        return OpCase(op, opset, (x,), {key: value for key, value in bounds.items() if source.flag()})
    if opset >= 13 and source.rarely(6):
        low, high = high, low
    first = np.array(low, dtype) if source.flag() else None
    second = np.array(high, dtype) if source.flag() else None
    return OpCase(op, opset, (x, first, second))


@draws("Cast", "CastLike")
def cast(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    target = source.pick(schema.dtypes(op, opset, output=True))
    x = _castable(source, source.shape(), dtype, np.dtype(target))
    if op == "CastLike":
        return OpCase(op, opset, (x, np.zeros(source.shape(0, 2), target)))
    import onnx.helper

    return OpCase(op, opset, (x,), {"to": int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(target)))})


def _castable(source: Source, shape: tuple[int, ...], dtype: np.dtype[Any], target: np.dtype[Any]) -> Array:
    """Values that the target can hold (floats out of a whole type's range are undefined)."""
    if dtype.kind == "f" and target.kind in "iu":
        return source.array(shape, dtype, 0 if target.kind == "u" else -100, 100)
    if dtype.kind == "f":
        return source.special(source.array(shape, dtype, -60, 60))
    return source.extremes(source.array(shape, dtype, -100, 100)) if target.kind != "f" else source.array(shape, dtype)


@draws("BitCast")
def bit_cast(source: Source, op: str) -> OpCase:
    import onnx.helper

    opset = source.opset(op)
    dtype = source.dtype(op, opset, only=[*schema.FLOATS, *schema.INTEGERS])
    targets = [np.dtype(d) for d in schema.dtypes(op, opset, output=True)]
    target = source.pick([d for d in targets if d.itemsize == dtype.itemsize and d.kind != "b"])
    x = source.array(source.shape(), dtype, 0, 100)
    return OpCase(op, opset, (x,), {"to": int(onnx.helper.np_dtype_to_tensor_dtype(target))})
