"""Writing numbers that a step carries."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, i32, i64

WORDS = {
    "write_words": "target count values[count]",
}


def write_words(dtype: str) -> Kernel:
    """One unit writes them all, as int32 or int64."""
    pointer = i32 if dtype == "int32" else i64

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = pointer(args[0])
        for i in range(args[1]):
            target[i] = args[2 + i]

    return kernel
