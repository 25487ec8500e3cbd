"""Reductions over any set of axes, and the position of the largest or smallest element.

Floats are added in float64, so that the order of summation does not matter at float32's accuracy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, i64
from mace_cpu.shared.kernels.indices import offset_of
from mace_cpu.shared.kernels.primitives import (
    LOCAL_ARRAYS,
    LOCAL_COUNT,
    LOCAL_SECOND,
    POINTERS,
    SCALARS,
    maximum,
    minimum,
    quotient,
)

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.shared.kernels.indices")

WORDS = {
    "reduce_rows": (
        "source target inner count kept_rank kept_sizes[kept_rank] kept_strides[kept_rank] "
        "reduced_rank reduced_sizes[reduced_rank] reduced_strides[reduced_rank]"
    ),
    "reduce_columns": (
        "source target inner count kept_rank kept_sizes[kept_rank] kept_strides[kept_rank] "
        "reduced_rank reduced_sizes[reduced_rank] reduced_strides[reduced_rank]"
    ),
    "extreme_position": "source target length inner last",
}

FAST = {"reassoc", "nsz", "contract"}
EXTREMES = ("max", "min")
IN_FLOAT = ("l2", "log_sum", "log_sum_exp")


def _accumulator(dtype: str, kind: str) -> str:
    """The type a reduction adds up in."""
    if kind in EXTREMES:
        return "uint8" if dtype == "bool" else dtype
    if dtype in ("float32", "float64") or kind in IN_FLOAT:
        return "float64"
    return "uint64" if dtype.startswith("uint") else "int64"


def _start(dtype: str, kind: str) -> Any:
    """The value an empty set reduces to, before the last step."""
    held = SCALARS[_accumulator(dtype, kind)]
    if kind == "prod":
        return held(1)
    if kind not in EXTREMES:
        return held(0)
    if dtype in ("float32", "float64"):
        return held(-math.inf if kind == "max" else math.inf)
    limits = np.iinfo(held)
    lowest, highest = (0, 1) if dtype == "bool" else (int(limits.min), int(limits.max))
    return held(lowest if kind == "max" else highest)


def reduce_rows(dtype: str, kind: str) -> Kernel:
    """Reduces where the innermost axis is among those reduced; one unit is one result.

    ``inner`` is the length of a row, ``count`` how many elements there are per result; what is reduced outside the
    rows has sizes and strides.
    """
    pointer = POINTERS[dtype]
    scalar = SCALARS[dtype]
    held = SCALARS[_accumulator(dtype, kind)]
    start = _start(dtype, kind)
    floating = dtype in ("float32", "float64")
    is_max, is_min, is_prod = kind == "max", kind == "min", kind == "prod"
    is_mean, is_l1, is_l2, is_exp = kind == "mean", kind == "l1", kind == "l2", kind == "log_sum_exp"
    squares, is_log = kind in ("l2", "sum_square"), kind == "log_sum"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        length = args[2]
        count = args[3]
        kept = args[4]
        outer_rank = args[5 + 2 * kept]
        outer = 6 + 2 * kept
        rows = 1
        for axis in range(outer_rank):
            rows *= args[outer + axis]
        source = pointer(args[0])
        target = pointer(args[1])
        for unit in range(begin, end):
            base = offset_of(unit, args, 5, 5 + kept, kept)
            total = start
            shift = 0.0
            if is_exp:
                largest = -math.inf
                for row in range(rows):
                    first = base + offset_of(row, args, outer, outer + outer_rank, outer_rank)
                    for i in range(first, first + length):
                        largest = maximum(largest, np.float64(source[i]))
                if abs(largest) != math.inf:
                    shift = largest
            for row in range(rows):
                first = base + offset_of(row, args, outer, outer + outer_rank, outer_rank)
                for i in range(first, first + length):
                    value = held(source[i])
                    if is_max:
                        total = maximum(total, value) if floating else max(total, value)
                    elif is_min:
                        total = minimum(total, value) if floating else min(total, value)
                    elif is_prod:
                        total *= value
                    elif squares:
                        total += value * value
                    elif is_l1:
                        total += abs(value)
                    elif is_exp:
                        total += math.exp(value - shift)
                    else:
                        total += value
            if is_mean:
                if floating:
                    total /= count
                else:
                    # towards zero, as a cast of the exact mean would be
                    total = held(math.trunc(total / held(count)))
            elif is_l2:
                total = math.sqrt(total)
            elif is_exp:
                total = math.log(total) + shift
            elif is_log:
                total = math.log(total)
            target[unit] = scalar(total)

    kernel.__fastmath__ = FAST  # type: ignore[attr-defined]
    return kernel


def reduce_columns(dtype: str, kind: str) -> Kernel:
    """Reduces where the innermost axis is kept; one unit is up to `LOCAL_COUNT` neighboring results.

    ``inner`` is the number of columns, ``count`` how many elements there are per result; what is kept outside the
    columns has sizes and strides.
    """
    pointer = POINTERS[dtype]
    scalar = SCALARS[dtype]
    accumulator = _accumulator(dtype, kind)
    held = SCALARS[accumulator]
    local = LOCAL_ARRAYS[accumulator]
    shifts = LOCAL_SECOND["float64"]
    start = _start(dtype, kind)
    floating = dtype in ("float32", "float64")
    is_max, is_min, is_prod = kind == "max", kind == "min", kind == "prod"
    is_mean, is_l1, is_l2, is_exp = kind == "mean", kind == "l1", kind == "l2", kind == "log_sum_exp"
    squares, is_log = kind in ("l2", "sum_square"), kind == "log_sum"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        columns = args[2]
        count = args[3]
        kept = args[4]
        rank = args[5 + 2 * kept]
        reduced = 6 + 2 * kept
        rows = 1
        for axis in range(rank):
            rows *= args[reduced + axis]
        tiles = quotient(columns + LOCAL_COUNT - 1, LOCAL_COUNT)
        totals = local()
        shift = shifts()
        for unit in range(begin, end):
            rest = quotient(unit, tiles)
            low = (unit - rest * tiles) * LOCAL_COUNT
            width = min(LOCAL_COUNT, columns - low)
            target = pointer(args[1])
            result = rest * columns + low
            base = low + offset_of(rest, args, 5, 5 + kept, kept)
            source = pointer(args[0])
            if is_exp:
                for i in range(width):
                    shift[i] = -math.inf
                for row in range(rows):
                    first = base + offset_of(row, args, reduced, reduced + rank, rank)
                    for i in range(width):
                        shift[i] = maximum(shift[i], np.float64(source[first + i]))
                for i in range(width):
                    if abs(shift[i]) == math.inf:
                        shift[i] = 0.0
            for i in range(width):
                totals[i] = start
            for row in range(rows):
                first = base + offset_of(row, args, reduced, reduced + rank, rank)
                for i in range(width):
                    value = held(source[first + i])
                    if is_max:
                        totals[i] = maximum(totals[i], value) if floating else max(totals[i], value)
                    elif is_min:
                        totals[i] = minimum(totals[i], value) if floating else min(totals[i], value)
                    elif is_prod:
                        totals[i] *= value
                    elif squares:
                        totals[i] += value * value
                    elif is_l1:
                        totals[i] += abs(value)
                    elif is_exp:
                        totals[i] += math.exp(value - shift[i])
                    else:
                        totals[i] += value
            for i in range(width):
                total = totals[i]
                if is_mean:
                    if floating:
                        total /= count
                    else:
                        total = held(math.trunc(total / held(count)))
                elif is_l2:
                    total = math.sqrt(total)
                elif is_exp:
                    total = math.log(total) + shift[i]
                elif is_log:
                    total = math.log(total)
                target[result + i] = scalar(total)

    kernel.__fastmath__ = FAST  # type: ignore[attr-defined]
    return kernel


def extreme_position(dtype: str, kind: str) -> Kernel:
    """Index of the "max" or "min" along an axis, the first of equals or, with ``last``, the last.

    One unit is up to `LOCAL_COUNT` neighboring results of one outer position.  A NaN counts as the extreme.
    """
    pointer = POINTERS[dtype]
    largest = kind == "max"
    bests = LOCAL_ARRAYS["uint8" if dtype == "bool" else dtype]
    wheres = LOCAL_SECOND["int64"]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        target = i64(args[1])
        length = args[2]
        inner = args[3]
        last = args[4] != 0
        tiles = quotient(inner + LOCAL_COUNT - 1, LOCAL_COUNT)
        best = bests()
        where = wheres()
        for unit in range(begin, end):
            outer = quotient(unit, tiles)
            low = (unit - outer * tiles) * LOCAL_COUNT
            width = min(LOCAL_COUNT, inner - low)
            base = outer * length * inner + low
            for i in range(width):
                best[i] = source[base + i]
                where[i] = 0
            for step in range(1, length):
                base += inner
                for i in range(width):
                    value = source[base + i]
                    better = value > best[i] if largest else value < best[i]
                    if last:
                        better = better or value == best[i]
                    if value != value:
                        better = best[i] == best[i] or last
                    elif best[i] != best[i]:
                        better = False
                    if better:
                        best[i] = value
                        where[i] = step
            for i in range(width):
                target[outer * inner + low + i] = where[i]

    return kernel
