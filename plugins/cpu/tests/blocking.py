"""Kernel of the test-only operator that produces the BLOCKED layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mace_core.native.numba_prelude import f32

WORDS = {"block_channels": "source target images channels pixels block"}


def block_channels() -> Callable[..., None]:
    """One unit is one channel block of one image."""

    def kernel(args: Any, begin: int, end: int, chunk: int) -> None:
        source = f32(args[0])
        target = f32(args[1])
        channels = args[3]
        pixels = args[4]
        block = args[5]
        blocks = (channels + block - 1) // block
        nan = float("nan")
        for unit in range(begin, end):
            image = unit // blocks
            first = (unit % blocks) * block
            for pixel in range(pixels):
                for lane in range(block):
                    at = (unit * pixels + pixel) * block + lane
                    if first + lane < channels:
                        target[at] = source[(image * channels + first + lane) * pixels + pixel]
                    else:
                        target[at] = nan

    return kernel
