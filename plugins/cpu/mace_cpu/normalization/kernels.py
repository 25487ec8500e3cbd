"""Hardmax, LpNormalization, and mean-variance normalization over any axes."""

from __future__ import annotations

from typing import Any

import numba

from mace_core.native.numba_prelude import Kernel, as_float, f32, f64
from mace_cpu.shared.kernels.indices import offset_of

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.indices",)

WORDS = {
    "hardmax": "source result length inner",
    "lp_normalization": "source result length inner p",
    "mean_variance": "source result epsilon kept reduced count "
    "kept_sizes[kept] kept_strides[kept] reduced_sizes[reduced] reduced_strides[reduced]",
}

POINTERS = {"float32": f32, "float64": f64}
SCALARS = {"float32": numba.float32, "float64": numba.float64}


def hardmax(dtype: str) -> Kernel:
    """One where a row has its largest element (the first of several), zero elsewhere.

    There are ``length`` elements along the axis, and ``inner`` from one to the next of them.  Units: rows.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, y, length, inner = pointer(args[0]), pointer(args[1]), args[2], args[3]
        for unit in range(begin, end):
            base = (unit // inner) * length * inner + unit % inner
            best = 0
            for k in range(length):
                y[base + k * inner] = scalar(0)
                if x[base + k * inner] > x[base + best * inner]:
                    best = k
            if length > 0:
                y[base + best * inner] = scalar(1)

    return kernel


def lp_normalization(dtype: str) -> Kernel:
    """Rows divided by their p-norm (p 1 or 2); rows of norm 0 become 0.

    There are ``length`` elements along the axis, and ``inner`` from one to the next of them.  Units: rows.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, y, length, inner, p = pointer(args[0]), pointer(args[1]), args[2], args[3], args[4]
        for unit in range(begin, end):
            base = (unit // inner) * length * inner + unit % inner
            total = numba.float64(0)
            for k in range(length):
                value = numba.float64(x[base + k * inner])
                total += abs(value) if p == 1 else value * value
            norm = total if p == 1 else total**0.5
            for k in range(length):
                y[base + k * inner] = scalar(x[base + k * inner] / norm) if norm != 0 else scalar(0)

    return kernel


def mean_variance(dtype: str) -> Kernel:
    """``(x - mean) / (deviation + epsilon)`` over any axes.

    Epsilon is float64 bits; ``count`` elements make a group; strides are in elements.  Units: groups.
    """
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, y, epsilon = pointer(args[0]), pointer(args[1]), as_float(args[2])
        kept, reduced, count = args[3], args[4], args[5]
        for unit in range(begin, end):
            base = offset_of(unit, args, 6, 6 + kept, kept)
            total = numba.float64(0)
            for i in range(count):
                total += x[base + offset_of(i, args, 6 + 2 * kept, 6 + 2 * kept + reduced, reduced)]
            mean = total / count
            squares = numba.float64(0)
            for i in range(count):
                centered = x[base + offset_of(i, args, 6 + 2 * kept, 6 + 2 * kept + reduced, reduced)] - mean
                squares += centered * centered
            factor = 1.0 / ((squares / count) ** 0.5 + epsilon)
            for i in range(count):
                at = base + offset_of(i, args, 6 + 2 * kept, 6 + 2 * kept + reduced, reduced)
                y[at] = scalar((x[at] - mean) * factor)

    return kernel
