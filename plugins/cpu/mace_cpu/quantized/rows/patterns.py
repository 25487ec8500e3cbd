"""How graphs say that floats become bytes by the range of their row, as LiteRT's products of mixed types do.

Names: ``x`` the floats, ``axes`` those that a range is of, ``zero`` the byte for 0 as uint8, ``size`` of a step.
"""

from __future__ import annotations

from mace_core.tensor import DType
from mace_cpu.quantized.rows.template import Made, Name, Pattern, cast, op

LOW, HIGH = -128.0, 127.0
X, AXES = Name("x"), Name("axes")


def _zero(low: Pattern, high: Pattern) -> Made:
    errors = op("Add", op("Add", low, LOW), op("Add", high, HIGH))
    is_low = op("Greater", errors, 0.0)
    return op("Round", op("Clip", op("Where", is_low, op("Sub", LOW, low), op("Sub", HIGH, high)), LOW, HIGH))


def _bytes(steps: Pattern, zero: Pattern, *, padded: bool) -> Made:
    """Steps within the range of bytes, from the least byte on."""
    within = op("Min", op("Max", steps, op("Sub", LOW, zero)), op("Sub", HIGH, zero))
    if padded:
        within = op("Pad", within, Name("pads"), 0.0)
    return cast(op("Add", within, Name("unsigned", op("Sub", zero, LOW))), DType.UINT8)


_LEAST = Name("least", op("Min", op("ReduceMin", X, AXES, keepdims=1), 0.0))
_MOST = Name("most", op("Max", op("ReduceMax", X, AXES, keepdims=1), 0.0))
_SPAN = Name("span", op("Sub", _MOST, _LEAST))


def _even(*, padded: bool = False) -> Made:
    per_unit = Name("per_unit", op("Where", op("Equal", _SPAN, 0.0), 1.0, op("Div", 255.0, _SPAN)))
    low, high = Name("low", op("Mul", _LEAST, per_unit)), Name("high", op("Mul", _MOST, per_unit))
    return _bytes(op("Round", op("Mul", X, per_unit)), Name("middle", _zero(low, high)), padded=padded)


def _away(*, padded: bool = False) -> Made:
    span = Name("wide_span", cast(_SPAN, DType.FLOAT64))
    is_flat = Name("is_flat", op("Equal", span, 0.0))
    wide = Name("wide", op("Where", is_flat, 1.0, op("Div", span, 255.0)))
    low = Name("low", op("Div", cast(_LEAST, DType.FLOAT64), wide))
    high = Name("high", op("Div", cast(_MOST, DType.FLOAT64), wide))
    zero = Name("middle", op("Where", is_flat, 0.0, cast(_zero(low, high), DType.FLOAT32)))
    step = Name("size", cast(wide, DType.FLOAT32))
    steps = Name("steps", op("Mul", X, op("Div", 1.0, step)))
    half = op("Where", op("Less", steps, 0.0), -0.5, 0.5)
    rounded = cast(cast(op("Add", steps, half), DType.INT32), DType.FLOAT32)
    return _bytes(rounded, zero, padded=padded)


BYTES = {"even": _even(), "away": _away()}
"""By how halves are rounded."""

PADDED = {"even": _even(padded=True), "away": _away(padded=True)}
"""The same with ``pads`` of 0 around."""

OFF = op("Mul", cast(Name("zero"), DType.INT32), Name("totals"))
"""What is taken off sums of bytes that were multiplied with their zero point in them."""

SIZES: dict[str, Pattern] = {"even": op("Div", 1.0, Name("per_unit")), "away": Name("size")}
ZERO = cast(Name("unsigned"), DType.UINT8)
