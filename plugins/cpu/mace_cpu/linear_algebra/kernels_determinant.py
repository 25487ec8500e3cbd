"""Determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f64, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "determinant": "source target scratch n",
}


def determinant(dtype: str) -> Kernel:
    """By elimination with pivots; one unit is one matrix of ``n`` rows, n * n float64 of scratch per chunk."""
    pointer, scalar = POINTERS[dtype], SCALARS[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        n = args[3]
        work = 0
        a = f64(args[2] + 8 * n * n * chunk)
        for unit in range(begin, end):
            for i in range(n * n):
                a[i] = np.float64(source[unit * n * n + i])
            result = 1.0
            for k in range(n):
                pivot = k
                work += (n - k) * (n - k)
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                for i in range(k + 1, n):
                    if abs(a[i * n + k]) > abs(a[pivot * n + k]):
                        pivot = i
                if pivot != k:
                    result = -result
                    for j in range(n):
                        a[k * n + j], a[pivot * n + j] = a[pivot * n + j], a[k * n + j]
                result *= a[k * n + k]
                if a[k * n + k] == 0.0:
                    break
                for i in range(k + 1, n):
                    factor = a[i * n + k] / a[k * n + k]
                    for j in range(k + 1, n):
                        a[i * n + j] -= factor * a[k * n + j]
            target[unit] = scalar(result)

    return kernel
