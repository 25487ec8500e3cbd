"""Resizing through tables: of source indices for nearest, of indices and weights per axis for the rest."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, as_float, f32, helper, i32
from mace_cpu.shared.kernels.lanes import WEIGHTED_PIXELS
from mace_cpu.shared.kernels.primitives import (
    LOCAL_ARRAYS,
    LOCAL_COUNT,
    POINTERS,
    SCALARS,
    WORD_POINTERS,
    copy_bytes,
    quotient,
)

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.lanes")

WORDS = {
    "take": "source target tables inner rank sizes[rank] strides[rank] starts[rank]",
    "interpolate": "source target indices weights source_length target_length taps inner fill",
    "interpolate_blocked": "source target indices weights source_length target_length taps inner fill",
}


def take(width: str, inner: str) -> Kernel:
    """Nearest: one unit is one row along the last axis that is resized.

    The strides are the source's, the starts those of each axis in the tables (int32).  Each index of the last axis
    stands for ``inner`` contiguous words, "one" or "many".
    """
    pointer = WORD_POINTERS[width]
    nbytes = int(width)
    single = inner == "one"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables = i32(args[2])
        words = args[3]
        rank = args[4]
        sizes = 5
        strides = sizes + rank
        starts = strides + rank
        length = args[sizes + rank - 1]
        step = args[strides + rank - 1]
        last_table = args[starts + rank - 1]
        for unit in range(begin, end):
            rest = unit
            word = 0
            for axis in range(rank - 2, -1, -1):
                outer = quotient(rest, args[sizes + axis])
                word += tables[args[starts + axis] + rest - outer * args[sizes + axis]] * args[strides + axis]
                rest = outer
            source = pointer(args[0] + word * nbytes)
            to_address = args[1] + unit * length * words * nbytes
            target = pointer(to_address)
            if single:
                for j in range(length):
                    target[j] = source[tables[last_table + j] * step]
            else:
                for j in range(length):
                    copy_bytes(
                        to_address + j * words * nbytes,
                        args[0] + (word + tables[last_table + j] * step) * nbytes,
                        words * nbytes,
                    )

    return kernel


def interpolate(source: str, target: str, inner: str) -> Kernel:
    """Linear, cubic and antialiased: one axis of (outer, length, inner) after another.

    Indices are int32 [target length, taps], weights float32 for float32, else float64.  A first index of -1 stands
    for the float64 ``fill``.  ``inner`` is "one" (one unit is one outer row) or "many" (one unit is one target index
    of one outer row).
    """
    computed = "float32" if source == "float32" and target == "float32" else "float64"
    return (_within_rows if inner == "one" else _between_rows)(source, target, computed)


def _rounded(target: str) -> Any:
    """``(value)``: what was computed, as an element of the target, saturated for integers."""
    scalar = SCALARS[target]
    if target in ("float32", "float64"):
        return helper(lambda value: scalar(value), inline="always")
    limits = np.iinfo(target)
    lowest, highest = float(limits.min), float(np.nextafter(float(limits.max) + 1.0, 0.0))
    return helper(lambda value: scalar(min(max(value, lowest), highest)), inline="always")


def _within_rows(source: str, target: str, computed: str) -> Kernel:
    read, write, weight_pointer, held = POINTERS[source], POINTERS[target], POINTERS[computed], SCALARS[computed]
    rounded = _rounded(target)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = read(args[0]), write(args[1])
        indices, weights = i32(args[2]), weight_pointer(args[3])
        source_length, length, taps = args[4], args[5], args[6]
        outside = held(as_float(args[8]))
        for unit in range(begin, end):
            base = unit * source_length
            for j in range(length):
                value = held(0)
                if indices[j * taps] < 0:
                    value = outside
                elif taps == 2:
                    value = (
                        weights[2 * j] * held(source[base + indices[2 * j]])
                        + weights[2 * j + 1] * held(source[base + indices[2 * j + 1]])
                    )  # fmt: skip
                else:
                    for t in range(j * taps, (j + 1) * taps):
                        value += weights[t] * held(source[base + indices[t]])
                target[unit * length + j] = rounded(value)

    return kernel


def _between_rows(source: str, target: str, computed: str) -> Kernel:
    read, write, weight_pointer, held = POINTERS[source], POINTERS[target], POINTERS[computed], SCALARS[computed]
    local = LOCAL_ARRAYS[computed]
    rounded = _rounded(target)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = read(args[0]), write(args[1])
        indices, weights = i32(args[2]), weight_pointer(args[3])
        source_length, length, taps, inner = args[4], args[5], args[6], args[7]
        outside = held(as_float(args[8]))
        total = local()
        for unit in range(begin, end):
            outer = quotient(unit, length)
            j = unit - outer * length
            for low in range(0, inner, LOCAL_COUNT):
                width = min(LOCAL_COUNT, inner - low)
                start = held(0)
                first = j * taps
                last = first + taps
                if indices[first] < 0:
                    start = outside
                    last = first
                for i in range(width):
                    total[i] = start
                for t in range(first, last):
                    base = (outer * source_length + indices[t]) * inner + low
                    weight = weights[t]
                    for i in range(width):
                        total[i] += weight * held(source[base + i])
                base = unit * inner + low
                for i in range(width):
                    target[base + i] = rounded(total[i])

    return kernel


def interpolate_blocked(lanes: str) -> Kernel:
    """The last axis of a BLOCKED value: (outer, length, lanes); one unit is one outer row.

    Words as for `interpolate`.
    """
    weighted = WEIGHTED_PIXELS[lanes]
    count = int(lanes)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = f32(args[1])
        indices = i32(args[2])
        source_length = args[4]
        length = args[5]
        taps = args[6]
        outside = np.float32(as_float(args[8]))
        for unit in range(begin, end):
            for j in range(length):
                if indices[j * taps] < 0:
                    for lane in range(count):
                        target[(unit * length + j) * count + lane] = outside
                else:
                    weighted(
                        args[0] + unit * source_length * count * 4,
                        args[1] + (unit * length + j) * count * 4,
                        args[2] + j * taps * 4,
                        args[3] + j * taps * 4,
                        taps,
                        count * 4,
                    )

    return kernel
