"""Bytes for 0 as integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, i32, u8

WORDS = {
    "row_zeros": "source target count",
}


def row_zeros() -> Kernel:
    """Bytes as int32.  Unit: all."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = u8(args[0]), i32(args[1])
        for i in range(args[2]):
            target[i] = np.int32(source[i])

    return kernel
