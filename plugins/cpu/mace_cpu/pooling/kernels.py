"""Pooling over windows of one to three spatial axes (missing ones have size 1).

Geometry words, from `GEOMETRY` on, have three entries each, the outermost axis first: sizes of the input and the
output, taps of a window, strides, pads at the begin, dilations, pads at the end.  Then come whether padding counts
(average), and p (Lp).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i64, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, maximum, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "pool_plain": (
        "source target inputs[3] outputs[3] taps[3] strides[3] begins[3] dilations[3] ends[3] counts_padding p"
    ),
    "max_pool_indices": (
        "source target inputs[3] outputs[3] taps[3] strides[3] begins[3] dilations[3] ends[3] counts_padding p "
        "indices column_major"
    ),
}

GEOMETRY = 2
LOWEST: dict[str, Any] = {
    "float32": -math.inf, "float64": -math.inf, "int8": -128, "uint8": 0, "int16": -32768, "uint16": 0,
}  # fmt: skip


@helper
def first_tap(origin: int, dilation: int) -> int:
    """The first tap of a window starting at ``origin`` that is not before the input."""
    return 0 if origin >= 0 else (dilation - 1 - origin) // dilation


@helper
def end_tap(origin: int, dilation: int, size: int, taps: int) -> Any:
    """One past the last tap that lies before ``size``."""
    if origin >= size:
        return 0
    return min(taps, (size - origin + dilation - 1) // dilation)


@helper
def first_output(offset: int, stride: int) -> int:
    """The first output whose tap, ``offset`` from its window's start in the input, is inside."""
    return 0 if offset >= 0 else (stride - 1 - offset) // stride


@helper
def end_output(offset: int, stride: int, size: int, outputs: int) -> int:
    """One past the last output whose tap is inside an input of ``size``."""
    if offset >= size:
        return 0
    return min(outputs, (size - offset + stride - 1) // stride)


class Axis(NamedTuple):
    """One spatial axis: sizes of input and output, and how windows lie."""

    size: Any
    outputs: Any
    taps: Any
    stride: Any
    begin: Any
    dilation: Any
    end: Any


@helper
def _axis(args: Any, index: Any) -> Any:
    """One of the three axes, the outermost first, from the geometry words."""
    at = GEOMETRY + index
    return Axis(args[at], args[at + 3], args[at + 6], args[at + 9], args[at + 12], args[at + 15], args[at + 18])


@helper
def counted_taps(origin: Any, axis: Any, include: Any) -> Any:
    """Taps that an average divides by along one axis, for a window that begins at ``origin``."""
    if include != 0:
        return end_tap(origin, axis.dilation, axis.size + axis.end, axis.taps)
    return max(end_tap(origin, axis.dilation, axis.size, axis.taps) - first_tap(origin, axis.dilation), 0)


def _row_adder(dtype: str, kind: str) -> Any:
    """``(target, row, source, base, low, high, stride, p)``: lets one tap of the windows into a row of results."""
    scalar = SCALARS[dtype]
    is_max, is_average = kind == "max", kind == "average"
    larger: Any = maximum if dtype in ("float32", "float64") else max

    @helper(forceinline=True)  # type: ignore[untyped-decorator]
    def add_row(target: Any, row: Any, source: Any, base: Any, low: Any, high: Any, stride: Any, p: Any) -> None:
        for i in range(low, high):
            value = source[base + i * stride]
            if is_max:
                target[row + i] = larger(target[row + i], value)
            elif is_average:
                target[row + i] += value
            elif p == 2:
                target[row + i] += value * value
            elif p == 1:
                target[row + i] += abs(value)
            else:
                target[row + i] += scalar(math.pow(abs(value), np.float64(p)))

    return add_row


def _line_adder(dtype: str, kind: str) -> Any:
    """``(target, row, source, base, axis, p)``: lets one line of the input into a row of results."""
    add_row = _row_adder(dtype, kind)

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def add_line(target: Any, row: Any, source: Any, base: Any, axis: Any, p: Any) -> None:
        stride = axis.stride
        if axis.taps > axis.size:  # most taps of every window lie outside: only those inside are looked at
            for i in range(axis.outputs):
                origin = i * stride - axis.begin
                for tap in range(
                    first_tap(origin, axis.dilation), end_tap(origin, axis.dilation, axis.size, axis.taps)
                ):
                    add_row(target, row, source, base + tap * axis.dilation - axis.begin, i, i + 1, stride, p)
        else:
            for tap in range(axis.taps):
                offset = tap * axis.dilation - axis.begin
                low = first_output(offset, stride)
                high = end_output(offset, stride, axis.size, axis.outputs)
                # strides that the compiler knows are vectorized
                if stride == 1:
                    add_row(target, row, source, base + offset, low, high, 1, p)
                elif stride == 2:
                    add_row(target, row, source, base + offset, low, high, 2, p)
                else:
                    add_row(target, row, source, base + offset, low, high, stride, p)

    return add_line


def _row_divider(dtype: str) -> Any:
    """``(target, row, outer, axis, include)``: makes averages of the sums in a row.

    ``outer`` is how many taps an average divides by along the other axes.
    """
    scalar = SCALARS[dtype]
    one = scalar(1)

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def divide(target: Any, row: Any, outer: Any, axis: Any, include: Any) -> None:
        # between the outputs whose windows touch an edge, the count stays the same
        low = min(first_output(-axis.begin, axis.stride), axis.outputs)
        last = (axis.taps - 1) * axis.dilation - axis.begin
        high = max(end_output(last, axis.stride, axis.size, axis.outputs), low)
        scale = one / scalar(outer * axis.taps)
        for i in range(row + low, row + high):
            target[i] *= scale
        for side in range(2):
            for i in range(high if side else 0, axis.outputs if side else low):
                count = outer * counted_taps(i * axis.stride - axis.begin, axis, include)
                target[row + i] = scalar(target[row + i] / scalar(count))

    return divide


def _root_taker(dtype: str) -> Any:
    """``(target, first, count, p)``: takes the p-th root of results."""
    scalar = SCALARS[dtype]

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def take_roots(target: Any, first: Any, count: Any, p: Any) -> None:
        for i in range(first, first + count):
            if p == 2:
                target[i] = scalar(math.sqrt(target[i]))
            elif p != 1:
                target[i] = scalar(math.pow(target[i], 1.0 / p))

    return take_roots


def pool_plain(dtype: str, kind: str) -> Kernel:
    """One unit is one row of the output.  Kinds: "max", "average", "lp"."""
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]
    start = scalar(LOWEST[dtype]) if kind == "max" else scalar(0)
    add_line, divide, take_roots = _line_adder(dtype, kind), _row_divider(dtype), _root_taker(dtype)
    is_average, is_lp = kind == "average", kind == "lp"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        d, h, w = _axis(args, 0), _axis(args, 1), _axis(args, 2)
        include, p = args[GEOMETRY + 21], args[GEOMETRY + 22]
        work = 0
        for unit in range(begin, end):
            slices = quotient(unit, h.outputs)
            plane = quotient(slices, d.outputs)
            from_d = (slices - plane * d.outputs) * d.stride - d.begin
            from_h = (unit - slices * h.outputs) * h.stride - h.begin
            row = unit * w.outputs
            for i in range(row, row + w.outputs):
                target[i] = start
            for z in range(first_tap(from_d, d.dilation), end_tap(from_d, d.dilation, d.size, d.taps)):
                for y in range(first_tap(from_h, h.dilation), end_tap(from_h, h.dilation, h.size, h.taps)):
                    work += min(w.taps, w.size) * w.outputs
                    if work > POLL_WORK:
                        work = 0
                        if stop_requested(args):
                            return
                    line = (plane * d.size + from_d + z * d.dilation) * h.size + from_h + y * h.dilation
                    add_line(target, row, source, line * w.size, w, p)
            if is_average:
                outer = counted_taps(from_d, d, include) * counted_taps(from_h, h, include)
                divide(target, row, outer, w, include)
            elif is_lp:
                take_roots(target, row, w.outputs, p)

    return kernel


def max_pool_indices(dtype: str) -> Kernel:
    """Also says where each maximum was found.  One unit is one row of the output."""
    pointer = POINTERS[dtype]
    start = SCALARS[dtype](LOWEST[dtype])

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target, indices = pointer(args[0]), pointer(args[1]), i64(args[GEOMETRY + 23])
        d, h, w = _axis(args, 0), _axis(args, 1), _axis(args, 2)
        by_column = args[GEOMETRY + 24]
        work = 0
        for unit in range(begin, end):
            slices = quotient(unit, h.outputs)
            plane = quotient(slices, d.outputs)
            from_d = (slices - plane * d.outputs) * d.stride - d.begin
            from_h = (unit - slices * h.outputs) * h.stride - h.begin
            first_d, end_d = first_tap(from_d, d.dilation), end_tap(from_d, d.dilation, d.size, d.taps)
            first_h, end_h = first_tap(from_h, h.dilation), end_tap(from_h, h.dilation, h.size, h.taps)
            for i in range(w.outputs):
                from_w = i * w.stride - w.begin
                first_w, end_w = first_tap(from_w, w.dilation), end_tap(from_w, w.dilation, w.size, w.taps)
                best = start
                where = -1
                for tap_d in range(first_d, end_d):
                    z = from_d + tap_d * d.dilation
                    for tap_h in range(first_h, end_h):
                        y = from_h + tap_h * h.dilation
                        work += w.taps
                        if work > POLL_WORK:
                            work = 0
                            if stop_requested(args):
                                return
                        for tap_w in range(first_w, end_w):
                            x = from_w + tap_w * w.dilation
                            value = source[((plane * d.size + z) * h.size + y) * w.size + x]
                            if where < 0 or value > best:
                                best = value
                                where = (
                                    z + d.size * (y + h.size * x) if by_column != 0 else (z * h.size + y) * w.size + x
                                )
                target[unit * w.outputs + i] = best
                indices[unit * w.outputs + i] = plane * d.size * h.size * w.size + where

    return kernel
