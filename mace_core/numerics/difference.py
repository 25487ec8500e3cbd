"""How far one value is from another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Difference:
    """What two values of one name have in common.

    Attributes:
        cosine: of the angle between them as vectors: 1 for the same direction.
        sqnr_db: signal to noise in decibels, ``10 log10(sum(expected²) / sum((found - expected)²))``; inf where equal.
        max_error: the largest absolute difference of an element.
        relative: ``max_error`` over the range (largest less smallest) of what was expected; inf where the two cannot
            be compared, or one of them is not finite where the other is.
        elements: how many there are.
        note: what kept them from being compared as numbers; "" where nothing did.
    """

    cosine: float
    sqnr_db: float
    max_error: float
    relative: float
    elements: int
    note: str = ""


EQUAL = Difference(1.0, math.inf, 0.0, 0.0, 0)


def compare(found: Any, expected: Any) -> Difference:
    """The difference of a result (array, list for a sequence, None) from the expected one.

    Booleans count as 0 and 1, texts as equal or not, a sequence as its worst element.  NaN equals NaN, and infinities
    of one sign are equal.
    """
    if found is None or expected is None:
        return EQUAL if found is None and expected is None else _incomparable("one of them is absent")
    if isinstance(found, list) or isinstance(expected, list):
        return _compare_lists(found, expected)
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return _incomparable(f"shape {list(found.shape)}, expected {list(expected.shape)}", expected.size)
    if expected.dtype.kind in "OSU":
        return _compare_texts(found, expected)
    if found.dtype != expected.dtype:
        return _incomparable(f"{found.dtype}, expected {expected.dtype}", expected.size)
    if expected.dtype.kind == "c":
        return _compare_numbers(found.view(found.real.dtype), expected.view(expected.real.dtype))
    return _compare_numbers(found, expected)


def _compare_lists(found: Any, expected: Any) -> Difference:
    if not (isinstance(found, list) and isinstance(expected, list)) or len(found) != len(expected):
        return _incomparable("sequences of different lengths")
    items = [compare(one, other) for one, other in zip(found, expected, strict=True)]
    return max(items, key=lambda item: item.relative, default=EQUAL)


def _compare_texts(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Difference:
    wrong = int(np.count_nonzero(found != expected))
    share = wrong / max(expected.size, 1)
    note = f"{wrong} of {expected.size} texts differ" if wrong else ""
    return Difference(1.0 - share, math.inf if not wrong else 0.0, float(wrong > 0), share, expected.size, note)


def _compare_numbers(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Difference:
    if not expected.size:
        return EQUAL
    x = found.astype(np.float64).reshape(-1)
    y = expected.astype(np.float64).reshape(-1)
    usual = np.isfinite(x) & np.isfinite(y)
    odd = int(np.count_nonzero(~usual & (x != y) & ~(np.isnan(x) & np.isnan(y))))
    x, y = x[usual], y[usual]
    error = np.abs(x - y)
    largest = float(error.max(initial=0.0))
    noise, signal = float(np.dot(error, error)), float(np.dot(y, y))
    span = float(y.max() - y.min()) if y.size else 0.0
    scale = span or float(np.abs(y).max(initial=0.0)) or 1.0
    lengths = math.sqrt(signal) * float(np.linalg.norm(x))
    cosine = min(1.0, float(np.dot(x, y)) / lengths) if lengths else float(noise == 0.0)
    sqnr = math.inf if noise == 0.0 else 10 * math.log10(signal / noise) if signal else -math.inf
    note = f"{odd} elements are finite in one only, or infinities differ" if odd else ""
    return Difference(cosine, sqnr, largest, math.inf if odd else largest / scale, expected.size, note)


def _incomparable(note: str, elements: int = 0) -> Difference:
    return Difference(math.nan, -math.inf, math.inf, math.inf, elements, note)
