"""Rows made longer, so that kernels may read whole groups of steps or vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import Kernel, f32

WORDS = {"padded_rows": "source target width padded"}


def padded_rows() -> Kernel:
    """Rows of ``width`` floats as rows of ``padded``, with zeros behind; one unit is one row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = f32(args[0]), f32(args[1])
        width, padded = args[2], args[3]
        for row in range(begin, end):
            for i in range(width):
                target[row * padded + i] = source[row * width + i]
            for i in range(width, padded):
                target[row * padded + i] = np.float32(0)

    return kernel
