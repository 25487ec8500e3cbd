"""Filling memory with a pattern, for tests."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, u8

WORDS = {
    "fill": "target byte",
}


def fill() -> Kernel:
    """One unit is one byte."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = u8(args[0])
        byte = args[1]
        for i in range(begin, end):
            target[i] = byte

    return kernel
