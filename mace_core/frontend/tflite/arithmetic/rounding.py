"""Multiplication and division of integers, rounded as LiteRT's kernels round (gemmlowp, "fixedpoint.h").

Arrays are int64; ``bits`` says in how many a kernel has the numbers: 16 or 32.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = "npt.NDArray[np.int64]"


def half_away(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rounded to whole numbers, halves away from zero; in the precision of ``x``."""
    whole = np.trunc(x)
    return np.asarray(whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0).astype(x.dtype))


def high_product(a: npt.ArrayLike, b: npt.ArrayLike, bits: int) -> Integers:
    """The product of two fractions, rounded; -1 times -1 is the greatest fraction."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    one, half = 1 << (bits - 1), 1 << (bits - 2)
    nudged = product + np.where(product >= 0, half, 1 - half)
    found = np.sign(nudged) * (np.abs(nudged) // one)
    return np.asarray(np.minimum(found, one - 1), np.int64)


def divided_by_power(x: npt.ArrayLike, exponent: int) -> Integers:
    """Divided by 2 to ``exponent``, rounded to nearest, halves away from zero."""
    x = np.asarray(x, np.int64)
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def multiplier_of(factor: float) -> tuple[int, int]:
    """A factor as a fraction of 31 bits from a half to 1, and a shift to the left.

    Raises:
        ValueError: if it is not finite.
    """
    if not math.isfinite(factor):
        raise ValueError("a scale is not finite")
    fraction, shift = math.frexp(factor)
    fixed = int(half_away(np.array(fraction * 2.0**31)))
    if fixed == 1 << 31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, shift)


def multiplied(x: npt.ArrayLike, multiplier: tuple[int, int]) -> Integers:
    """Numbers times a factor that `multiplier_of` gave; they wrap at 32 bits, as they do in the kernels."""
    fixed, shift = multiplier
    left = np.asarray(x, np.int64) << max(shift, 0)
    return divided_by_power(high_product(left.astype(np.int32), fixed, 32), max(-shift, 0))
