"""Compress: writes how much it found beside it."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, i64, u8
from mace_cpu.shared.kernels.primitives import copy_bytes

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "compress": "source condition target dims scratch outer size row_bytes entries rank axis shape[rank]",
}


def compress() -> Kernel:
    """Slices of (outer, size, row bytes) whose entry in the condition is set.

    The condition is read once, into the scratch of ``entries`` bytes: another thread may change it meanwhile.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        condition = u8(args[1])
        dims = i64(args[3])
        kept_here = u8(args[4])
        size = args[6]
        row = args[7]
        entries = min(args[8], size)
        rank = args[9]
        kept = 0
        for i in range(entries):
            kept_here[i] = condition[i]
            kept += 1 if kept_here[i] != 0 else 0
        at = 0
        for outer in range(args[5]):
            for i in range(entries):
                if kept_here[i] != 0:
                    copy_bytes(args[2] + at * row, args[0] + (outer * size + i) * row, row)
                    at += 1
        for axis in range(rank):
            dims[axis] = args[11 + axis]
        dims[args[10]] = kept

    return kernel
