"""Reductions over any set of axes, and the position of the largest or smallest element.

Floats are added in float64, so that the order of summation does not matter at float32's accuracy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, helper, i64
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


def _addition(dtype: str, kind: str) -> Any:
    """``(total, value, shift)``: the total with one more element; the logarithm of a sum of exponentials is shifted."""
    floating = dtype in ("float32", "float64")
    larger: Any = maximum if floating else max
    smaller: Any = minimum if floating else min
    functions: dict[str, Any] = {
        "max": lambda total, value, shift: larger(total, value),
        "min": lambda total, value, shift: smaller(total, value),
        "prod": lambda total, value, shift: total * value,
        "l1": lambda total, value, shift: total + abs(value),
        "l2": lambda total, value, shift: total + value * value,
        "sum_square": lambda total, value, shift: total + value * value,
        "log_sum_exp": lambda total, value, shift: total + math.exp(value - shift),
    }
    return helper(functions.get(kind, lambda total, value, shift: total + value), inline="always")


def _last_step(dtype: str, kind: str) -> Any:
    """``(total, count, shift)``: the result, when all ``count`` elements are in the total."""
    held = SCALARS[_accumulator(dtype, kind)]
    functions: dict[str, Any] = {
        "mean": lambda total, count, shift: total / count,
        "l2": lambda total, count, shift: math.sqrt(total),
        "log_sum": lambda total, count, shift: math.log(total),
        "log_sum_exp": lambda total, count, shift: math.log(total) + shift,
    }
    if dtype not in ("float32", "float64"):
        # towards zero, as a cast of the exact mean would be
        functions["mean"] = lambda total, count, shift: held(math.trunc(total / held(count)))
    return helper(functions.get(kind, lambda total, count, shift: total), inline="always")


@helper(inline="always")  # type: ignore[untyped-decorator]
def _product(args: Any, first: Any, count: Any) -> Any:
    """Of ``count`` words from ``first`` on."""
    product = 1
    for at in range(first, first + count):
        product *= args[at]
    return product


def reduce_rows(dtype: str, kind: str) -> Kernel:
    """Reduces where the innermost axis is among those reduced; one unit is one result.

    ``inner`` is the length of a row, ``count`` how many elements there are per result; what is reduced outside the
    rows has sizes and strides.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]
    held, start = SCALARS[_accumulator(dtype, kind)], _start(dtype, kind)
    add, finish = _addition(dtype, kind), _last_step(dtype, kind)
    is_shifted = kind == "log_sum_exp"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        length, count, kept = args[2], args[3], args[4]
        rank = args[5 + 2 * kept]
        sizes = 6 + 2 * kept
        strides = sizes + rank
        rows = _product(args, sizes, rank)
        for unit in range(begin, end):
            base = offset_of(unit, args, 5, 5 + kept, kept)
            shift = 0.0
            if is_shifted:
                largest = -math.inf
                for row in range(rows):
                    first = base + offset_of(row, args, sizes, strides, rank)
                    for i in range(first, first + length):
                        largest = maximum(largest, np.float64(source[i]))
                if abs(largest) != math.inf:
                    shift = largest
            total = start
            for row in range(rows):
                first = base + offset_of(row, args, sizes, strides, rank)
                for i in range(first, first + length):
                    total = add(total, held(source[i]), shift)
            target[unit] = scalar(finish(total, count, shift))

    kernel.__fastmath__ = FAST  # type: ignore[attr-defined]
    return kernel


def reduce_columns(dtype: str, kind: str) -> Kernel:
    """Reduces where the innermost axis is kept; one unit is up to `LOCAL_COUNT` neighboring results.

    ``inner`` is the number of columns, ``count`` how many elements there are per result; what is kept outside the
    columns has sizes and strides.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]
    accumulator = _accumulator(dtype, kind)
    held, start = SCALARS[accumulator], _start(dtype, kind)
    local, local_shifts = LOCAL_ARRAYS[accumulator], LOCAL_SECOND["float64"]
    add, finish = _addition(dtype, kind), _last_step(dtype, kind)
    is_shifted = kind == "log_sum_exp"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        columns, count, kept = args[2], args[3], args[4]
        rank = args[5 + 2 * kept]
        sizes = 6 + 2 * kept
        strides = sizes + rank
        rows = _product(args, sizes, rank)
        tiles = quotient(columns + LOCAL_COUNT - 1, LOCAL_COUNT)
        totals, shifts = local(), local_shifts()
        for unit in range(begin, end):
            rest = quotient(unit, tiles)
            low = (unit - rest * tiles) * LOCAL_COUNT
            width = min(LOCAL_COUNT, columns - low)
            result = rest * columns + low
            base = low + offset_of(rest, args, 5, 5 + kept, kept)
            if is_shifted:
                for i in range(width):
                    shifts[i] = -math.inf
                for row in range(rows):
                    first = base + offset_of(row, args, sizes, strides, rank)
                    for i in range(width):
                        shifts[i] = maximum(shifts[i], np.float64(source[first + i]))
                for i in range(width):
                    if abs(shifts[i]) == math.inf:
                        shifts[i] = 0.0
            for i in range(width):
                totals[i] = start
            for row in range(rows):
                first = base + offset_of(row, args, sizes, strides, rank)
                for i in range(width):
                    totals[i] = add(totals[i], held(source[first + i]), shifts[i])
            for i in range(width):
                target[result + i] = scalar(finish(totals[i], count, shifts[i]))

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
