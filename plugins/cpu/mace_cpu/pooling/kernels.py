"""Pooling over windows of one to three spatial axes (missing ones have size 1).

Geometry words, from `GEOMETRY` on, have three entries each, the outermost axis first: sizes of the input and the
output, taps of a window, strides, pads at the begin, dilations, pads at the end.  Then come whether padding counts
(average), and p (Lp).
"""

from __future__ import annotations

import math
from typing import Any

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
    "float32": -math.inf, "float64": -math.inf, "int8": -128, "uint8": 0,
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


@helper
def counted_taps(origin: int, dilation: int, size: int, taps: int, pad: int, pad_end: int, include: int) -> Any:
    """Taps that an average divides by along one axis."""
    if include != 0:
        return end_tap(origin, dilation, size + pad_end, taps)
    return max(end_tap(origin, dilation, size, taps) - first_tap(origin, dilation), 0)


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


def pool_plain(dtype: str, kind: str) -> Kernel:
    """One unit is one row of the output.  Kinds: "max", "average", "lp"."""
    pointer = POINTERS[dtype]
    scalar = SCALARS[dtype]
    is_max, is_average = kind == "max", kind == "average"
    start = scalar(LOWEST[dtype]) if is_max else scalar(0)
    add_row = _row_adder(dtype, kind)
    one = scalar(1)
    g = GEOMETRY

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        target = pointer(args[1])
        in_d, in_h, in_w = args[g], args[g + 1], args[g + 2]
        out_d, out_h, out_w = args[g + 3], args[g + 4], args[g + 5]
        taps_d, taps_h, taps_w = args[g + 6], args[g + 7], args[g + 8]
        stride_d, stride_h, stride_w = args[g + 9], args[g + 10], args[g + 11]
        pad_d, pad_h, pad_w = args[g + 12], args[g + 13], args[g + 14]
        step_d, step_h, step_w = args[g + 15], args[g + 16], args[g + 17]
        end_d, end_h, end_w = args[g + 18], args[g + 19], args[g + 20]
        include = args[g + 21]
        p = args[g + 22]
        work = 0
        for unit in range(begin, end):
            slices = quotient(unit, out_h)
            plane = quotient(slices, out_d)
            from_d = (slices - plane * out_d) * stride_d - pad_d
            from_h = (unit - slices * out_h) * stride_h - pad_h
            row = unit * out_w
            for i in range(row, row + out_w):
                target[i] = start
            for d in range(first_tap(from_d, step_d), end_tap(from_d, step_d, in_d, taps_d)):
                for h in range(first_tap(from_h, step_h), end_tap(from_h, step_h, in_h, taps_h)):
                    work += min(taps_w, in_w) * out_w
                    if work > POLL_WORK:
                        work = 0
                        if stop_requested(args):
                            return
                    base = ((plane * in_d + from_d + d * step_d) * in_h + from_h + h * step_h) * in_w
                    if taps_w > in_w:  # most taps of every window lie outside: only those inside are looked at
                        for i in range(out_w):
                            from_w = i * stride_w - pad_w
                            for w in range(first_tap(from_w, step_w), end_tap(from_w, step_w, in_w, taps_w)):
                                add_row(target, row, source, base + w * step_w - pad_w, i, i + 1, stride_w, p)
                        continue
                    for w in range(taps_w):
                        offset = w * step_w - pad_w
                        low = first_output(offset, stride_w)
                        high = end_output(offset, stride_w, in_w, out_w)
                        # strides that the compiler knows are vectorized
                        if stride_w == 1:
                            add_row(target, row, source, base + offset, low, high, 1, p)
                        elif stride_w == 2:
                            add_row(target, row, source, base + offset, low, high, 2, p)
                        else:
                            add_row(target, row, source, base + offset, low, high, stride_w, p)
            if is_average:
                outer = counted_taps(from_d, step_d, in_d, taps_d, pad_d, end_d, include)
                outer *= counted_taps(from_h, step_h, in_h, taps_h, pad_h, end_h, include)
                # between the outputs whose windows touch an edge, the count stays the same
                low = min(first_output(-pad_w, stride_w), out_w)
                high = max(end_output((taps_w - 1) * step_w - pad_w, stride_w, in_w, out_w), low)
                scale = one / scalar(outer * taps_w)
                for i in range(row + low, row + high):
                    target[i] *= scale
                for side in range(2):
                    for i in range(high if side else 0, out_w if side else low):
                        count = outer * counted_taps(i * stride_w - pad_w, step_w, in_w, taps_w, pad_w, end_w, include)
                        target[row + i] = scalar(target[row + i] / scalar(count))
            elif not is_max:
                for i in range(row, row + out_w):
                    if p == 2:
                        target[i] = scalar(math.sqrt(target[i]))
                    elif p != 1:
                        target[i] = scalar(math.pow(target[i], 1.0 / p))

    return kernel


def max_pool_indices(dtype: str) -> Kernel:
    """Also says where each maximum was found.  One unit is one row of the output."""
    pointer = POINTERS[dtype]
    start = SCALARS[dtype](LOWEST[dtype])
    g = GEOMETRY

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        target = pointer(args[1])
        in_d, in_h, in_w = args[g], args[g + 1], args[g + 2]
        out_d, out_h, out_w = args[g + 3], args[g + 4], args[g + 5]
        step_d, step_h, step_w = args[g + 15], args[g + 16], args[g + 17]
        indices = i64(args[g + 23])
        by_column = args[g + 24]
        work = 0
        for unit in range(begin, end):
            slices = quotient(unit, out_h)
            plane = quotient(slices, out_d)
            from_d = (slices - plane * out_d) * args[g + 9] - args[g + 12]
            from_h = (unit - slices * out_h) * args[g + 10] - args[g + 13]
            first_d, last_d = first_tap(from_d, step_d), end_tap(from_d, step_d, in_d, args[g + 6])
            first_h, last_h = first_tap(from_h, step_h), end_tap(from_h, step_h, in_h, args[g + 7])
            for i in range(out_w):
                from_w = i * args[g + 11] - args[g + 14]
                best = start
                where = -1
                for d in range(first_d, last_d):
                    z = from_d + d * step_d
                    for h in range(first_h, last_h):
                        y = from_h + h * step_h
                        work += args[g + 8]
                        if work > POLL_WORK:
                            work = 0
                            if stop_requested(args):
                                return
                        for w in range(first_tap(from_w, step_w), end_tap(from_w, step_w, in_w, args[g + 8])):
                            x = from_w + w * step_w
                            value = source[((plane * in_d + z) * in_h + y) * in_w + x]
                            if where < 0 or value > best:
                                best = value
                                where = z + in_d * (y + in_h * x) if by_column != 0 else (z * in_h + y) * in_w + x
                target[unit * out_w + i] = best
                indices[unit * out_w + i] = plane * in_d * in_h * in_w + where

    return kernel
