"""DynamicQuantizeLinear: the range of all elements, the scale and zero point for it, and the bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32, i32, i64, u8
from mace_cpu.shared.kernels.primitives import maximum, minimum

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "longest": "lengths target batch steps width",
    "ranges": "source target size piece counted",
    "parameters": "ranges scale zero count",
    "dynamic_bytes": "source scale zero target size piece",
}

ROUNDER = np.float32(12582912.0)
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""


def longest() -> Kernel:
    """``width`` times the largest of ``batch`` lengths, each taken as one from 0 to ``steps``.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        lengths = i32(args[0])
        found = 0
        for item in range(args[2]):
            found = max(found, min(int(lengths[item]), args[3]))
        i64(args[1])[0] = found * args[4]

    return kernel


def ranges() -> Kernel:
    """The least and the largest element of each piece, zero among them.  Unit: ``piece`` elements.

    ``counted``: the address of how many elements there are to be seen, or 0 for all.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        size = args[2]
        if args[4] != 0:
            size = min(size, i64(args[4])[0])
        for unit in range(begin, end):
            low, high = np.float32(0), np.float32(0)
            for i in range(unit * args[3], min((unit + 1) * args[3], size)):
                low = minimum(low, source[i])
                high = maximum(high, source[i])
            target[2 * unit] = low
            target[2 * unit + 1] = high

    return kernel


def parameters() -> Kernel:
    """The scale that spreads the range of ``count`` pieces over 256 steps, and the step of zero.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        found, scale, zero = f32(args[0]), f32(args[1]), u8(args[2])
        low, high = np.float32(0), np.float32(0)
        for i in range(args[3]):
            low = minimum(low, found[2 * i])
            high = maximum(high, found[2 * i + 1])
        step = np.float32(1) if high == low else (high - low) / np.float32(255)
        scale[0] = step
        place = (np.float32(0) - low) / step
        place = min(max((place + ROUNDER) - ROUNDER, np.float32(0)), np.float32(255))
        zero[0] = np.uint8(np.int32(place))

    return kernel


def dynamic_bytes() -> Kernel:
    """The bytes of each piece: ``round(x / scale) + zero``, to nearest even, saturated.  Unit: ``piece`` elements."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), u8(args[3])
        scale = f32(args[1])[0]
        zero = np.int32(u8(args[2])[0])
        for i in range(begin * args[5], min(end * args[5], args[4])):
            whole = np.int32((source[i] / scale + ROUNDER) - ROUNDER) + zero
            target[i] = np.uint8(min(max(whole, np.int32(0)), np.int32(255)))

    return kernel
