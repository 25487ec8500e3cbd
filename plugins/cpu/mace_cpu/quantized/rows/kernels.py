"""Rows of floats as bytes: the range of each, the size of a step, which byte stands for 0, and the bytes.

The formulas, operation by operation, are those of the nodes that `mace_cpu.quantized.rows.patterns` describes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32, helper, i32, u8
from mace_cpu.shared.kernels.primitives import maximum, minimum

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "rows": "source target zeros sizes length",
    "row_ranges": "source target length pieces piece",
    "row_parameters": "ranges inverses zeros sizes pieces",
    "row_zeros": "source target count",
    "row_bytes": "source target inverses zeros length pieces piece",
}

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""

WIDE_ROUNDER = 6755399441055744.0
"""1.5 * 2**52: the same for float64."""


@helper
def _limits(source: Any, begin: Any, end: Any) -> Any:
    """The least and the largest of some floats, 0 among them."""
    low, high = np.float32(0), np.float32(0)
    for i in range(begin, end):
        low = minimum(low, source[i])
        high = maximum(high, source[i])
    return low, high


@helper
def _single(low: Any, high: Any) -> Any:
    """(steps per unit, the byte for 0 as a float, the size of a step), in float32."""
    span = high - low
    per_unit = np.float32(1) if span == np.float32(0) else np.float32(255) / span
    low, high = low * per_unit, high * per_unit
    error = (low + np.float32(-128)) + (high + np.float32(127))
    zero = np.float32(-128) - low if error > np.float32(0) else np.float32(127) - high
    zero = minimum(maximum(zero, np.float32(-128)), np.float32(127))
    zero = (zero + ROUNDER) - ROUNDER
    return per_unit, zero + np.float32(128), np.float32(1) / per_unit


@helper
def _double(low: Any, high: Any) -> Any:
    """As `_single`, partly in float64."""
    span = np.float64(high - low)
    is_flat = span == 0.0
    wide = 1.0 if is_flat else span / 255.0
    low, high = np.float64(low) / wide, np.float64(high) / wide
    error = (low + -128.0) + (high + 127.0)
    zero = -128.0 - low if error > 0.0 else 127.0 - high
    zero = minimum(maximum(zero, -128.0), 127.0)
    zero = (zero + WIDE_ROUNDER) - WIDE_ROUNDER
    found = np.float32(0) if is_flat else np.float32(zero)
    size = np.float32(wide)
    return np.float32(1) / size, found + np.float32(128), size


@helper
def _store_even(source: Any, target: Any, begin: Any, end: Any, per_unit: Any, zero: Any) -> Any:
    """Bytes of some floats, rounded to nearest even."""
    for i in range(begin, end):
        steps = (source[i] * per_unit + ROUNDER) - ROUNDER
        place = steps + zero
        place = place if place > np.float32(0) else np.float32(0)
        place = place if place < np.float32(255) else np.float32(255)
        target[i] = np.uint8(np.int32(place))


@helper
def _store_away(source: Any, target: Any, begin: Any, end: Any, per_unit: Any, zero: Any) -> Any:
    """Bytes of some floats, rounded to nearest, halves away from 0."""
    for i in range(begin, end):
        steps = source[i] * per_unit
        half = np.float32(-0.5) if steps < np.float32(0) else np.float32(0.5)
        steps = np.float32(np.int32(steps + half))
        place = steps + zero
        place = place if place > np.float32(0) else np.float32(0)
        place = place if place < np.float32(255) else np.float32(255)
        target[i] = np.uint8(np.int32(place))


PARAMETERS = {"even": _single, "away": _double}
STORES = {"even": _store_even, "away": _store_away}


def rows(rule: str) -> Kernel:
    """Whole rows.  Unit: a row of ``length`` floats."""
    find, store = PARAMETERS[rule], STORES[rule]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, zeros, sizes = f32(args[0]), u8(args[1]), u8(args[2]), f32(args[3])
        length = args[4]
        for row in range(begin, end):
            first, last = row * length, (row + 1) * length
            low, high = _limits(source, first, last)
            per_unit, zero, size = find(low, high)
            store(source, target, first, last, per_unit, zero)
            zeros[row] = np.uint8(np.int32(zero))
            sizes[row] = size

    return kernel


def row_ranges() -> Kernel:
    """The least and the largest element of each piece of a row, 0 among them.  Unit: ``piece`` elements."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        length, pieces, piece = args[2], args[3], args[4]
        for unit in range(begin, end):
            row, part = unit // pieces, unit % pieces
            first = row * length + part * piece
            low, high = _limits(source, first, min(first + piece, (row + 1) * length))
            target[2 * unit] = low
            target[2 * unit + 1] = high

    return kernel


def row_parameters(rule: str) -> Kernel:
    """What rows are rounded by, from the ranges of their pieces.  Unit: a row."""
    find = PARAMETERS[rule]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        ranges, inverses, zeros, sizes = f32(args[0]), f32(args[1]), u8(args[2]), f32(args[3])
        for row in range(begin, end):
            low, high = np.float32(0), np.float32(0)
            for i in range(row * args[4], (row + 1) * args[4]):
                low = minimum(low, ranges[2 * i])
                high = maximum(high, ranges[2 * i + 1])
            per_unit, zero, size = find(low, high)
            inverses[row] = per_unit
            zeros[row] = np.uint8(np.int32(zero))
            sizes[row] = size

    return kernel


def row_bytes(rule: str) -> Kernel:
    """The bytes of each piece of a row.  Unit: ``piece`` elements."""
    store = STORES[rule]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, inverses, zeros = f32(args[0]), u8(args[1]), f32(args[2]), u8(args[3])
        length, pieces, piece = args[4], args[5], args[6]
        for unit in range(begin, end):
            row, part = unit // pieces, unit % pieces
            first = row * length + part * piece
            last = min(first + piece, (row + 1) * length)
            store(source, target, first, last, inverses[row], np.float32(zeros[row]))

    return kernel


def row_zeros() -> Kernel:
    """Bytes as int32.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = u8(args[0]), i32(args[1])
        for i in range(args[2]):
            target[i] = np.int32(source[i])

    return kernel
