"""Writing numbers that a step carries."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, as_float, f32, i32, i64

WORDS = {
    "write_words": "target count values[count]",
    "write_offsets": "target start rank sizes[rank] strides[rank]",
    "write_number": "target number count",
}


def write_words(dtype: str) -> Kernel:
    """One unit writes them all, as int32 or int64."""
    pointer = i32 if dtype == "int32" else i64

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = pointer(args[0])
        for i in range(args[1]):
            target[i] = args[2 + i]

    return kernel


def write_offsets() -> Kernel:
    """One unit writes start + the sum of index * stride over all axes, for each index in order, as int64."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = i64(args[0])
        rank = args[2]
        target[0] = args[1]
        filled = 1
        for axis in range(rank):  # from the innermost axis on, what is there is repeated for each of its indices
            size, stride = args[2 + rank - axis], args[2 + 2 * rank - axis]
            for index in range(1, size):
                for i in range(filled):
                    target[index * filled + i] = target[i] + index * stride
            filled *= size

    return kernel


def write_number() -> Kernel:
    """One unit writes the same float32 again and again."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = f32(args[0])
        number = np.float32(as_float(args[1]))
        for i in range(args[2]):
            target[i] = number

    return kernel
