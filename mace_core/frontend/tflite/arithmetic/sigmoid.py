"""LiteRT's tanh and logistic function of 16 bits: a table, or series where scales are powers of 2."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.arithmetic.rounding import Integers, divided_by_power, high_product

_BITS = 16
_ONE = (1 << (_BITS - 1)) - 1
_INTEGER_BITS = 3
"""The series take numbers from -8 to 8."""


def tanh(codes: npt.ArrayLike, scale: float) -> Integers:
    """The hyperbolic tangent of numbers of 16 bits, in steps of 2**-15."""
    shift = _shift_of(scale)
    if shift in (0, 1):
        return tanh_series(np.clip(np.asarray(codes, np.int64) << shift, -_ONE - 1, _ONE))
    x = _thirds(codes, scale)
    found = _of_table(np.abs(x), 8)
    found = np.where(x >= 0, found - (1 << 23) + (1 << 7), -found + (1 << 23) + (1 << 7) - 1)
    return (found >> 8).astype(np.int16).astype(np.int64)


def logistic(codes: npt.ArrayLike, scale: float) -> Integers:
    """The logistic function of numbers of 16 bits, in steps of 2**-15."""
    if _shift_of(scale) == 0:
        return logistic_series(np.asarray(codes, np.int64))
    x = _thirds(codes, scale)
    found = _of_table(np.abs(x), 9)
    found = np.where(x >= 0, found + (1 << 9), (1 << 25) - found + (1 << 9) - 1)
    return (found >> 10).astype(np.int16).astype(np.int64)


def _shift_of(scale: float) -> int | None:
    """By how many bits a scale exceeds 2**-12; None if it is no power of 2."""
    exponent = round(math.log2(scale))
    return exponent + 12 if abs(math.log2(scale) - exponent) < 1e-3 else None


# --- the table --------------------------------------------------------------------------------------------------------


@cache
def _table() -> Integers:
    """The logistic function at 0, 1/24, 2/24, ... of 256 places, in steps of 2**-16.

    Each place is moved by half of the error that a line makes between it and the next; the last one is the greatest.
    """
    places = np.arange(256.0)

    def function(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(65536 / (1 + np.exp(-x / 24)))

    error = (function(places) + function(places + 1)) / 2 - function(places + 0.5)
    found: Integers = np.round(function(places) - error / 2).astype(np.int64)
    found[-1] = 65535
    return found


def _thirds(codes: npt.ArrayLike, scale: float) -> Integers:
    """Numbers in steps of 1 / (3 * 4096)."""
    factor, shift = float(np.float32(scale)) * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and shift <= 30:
        factor, shift = factor * 2.0, shift + 1
    rounding = 1 << (shift - 1) if shift > 0 else 0
    return (np.asarray(codes, np.int64) * int(factor) + rounding) >> shift


def _of_table(x: Integers, bits: int) -> Integers:
    """The function in steps of 2**-(16 + bits), on a line between two places; the greatest beyond the table."""
    table = _table()
    place, rest = np.minimum(x >> bits, 254), x & ((1 << bits) - 1)
    found = (table[place] << bits) + rest * (table[place + 1] - table[place])
    greatest = 0xFFFF << 8 if bits == 8 else 0x7FFF << 10
    return np.where(x >> bits >= 255, greatest, found)


# --- the series (gemmlowp: exp_on_negative_values, tanh, logistic) ----------------------------------------------------


def _fraction(number: float, integer_bits: int = 0) -> int:
    return int(np.clip(round(number * (1 << (_BITS - 1 - integer_bits))), -_ONE - 1, _ONE))


def _shifted(x: Integers, bits: int) -> Integers:
    return np.asarray(np.clip(x << bits, -_ONE - 1, _ONE), np.int64)


def _product(a: npt.ArrayLike, b: npt.ArrayLike) -> Integers:
    return high_product(a, b, _BITS)


def _exp_of_negative(x: Integers, integer_bits: int) -> Integers:
    """exp(x) of numbers that are not positive: a series for what exceeds a quarter, then a factor for each bit."""
    fraction_bits = _BITS - 1 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    a = _shifted(rest, integer_bits) + (1 << (_BITS - 1 - 3))
    square = _product(a, a)
    cube, fourth = _product(square, a), _product(square, square)
    series = divided_by_power(_product(divided_by_power(fourth, 2) + cube, _fraction(1 / 3)) + square, 1)
    base = _fraction(math.exp(-1 / 8))
    found = np.clip(base + _product(base, a + series), -_ONE - 1, _ONE)
    remainder = rest - x
    for exponent in range(-2, min(integer_bits, 5)):
        factor = _fraction(math.exp(-(2.0**exponent)))
        found = np.where(remainder & (1 << (fraction_bits + exponent)), _product(found, factor), found)
    if integer_bits > 5:
        found = np.where(x < -(32 << fraction_bits), 0, found)
    return np.where(x == 0, _ONE, found)


def _reciprocal_of_half(x: Integers) -> Integers:
    """2 / (1 + x) for fractions, with 2 integer bits: Newton's method."""
    half = (x + _ONE + 1) >> 1
    found = _fraction(48 / 17, 2) + _product(half, _fraction(-32 / 17, 2))
    for _ in range(3):
        error = (1 << (_BITS - 1 - 2)) - _product(half, found)
        found = found + _shifted(_product(found, error), 2)
    return found


def tanh_series(x: Integers, integer_bits: int = _INTEGER_BITS) -> Integers:
    """The hyperbolic tangent, in steps of 2**-15, of numbers of 16 bits with so many before the point."""
    power = _exp_of_negative(np.where(x < 0, x, -x), integer_bits + 1)
    found = _shifted(_reciprocal_of_half(power) - (1 << (_BITS - 1 - 2)), 2)
    return np.where(x == 0, 0, np.where(x < 0, -found, found))


def logistic_series(x: Integers) -> Integers:
    """The logistic function, in steps of 2**-15, of numbers of 16 bits with 3 before the point."""
    power = _exp_of_negative(-np.abs(x), _INTEGER_BITS)
    above = _shifted(_reciprocal_of_half(power), 1)
    return np.where(x == 0, 1 << (_BITS - 2), np.where(x > 0, above, _ONE - above))
