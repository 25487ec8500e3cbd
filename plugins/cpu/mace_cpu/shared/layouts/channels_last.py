"""The CHANNELS_LAST layout of numbers of 8 and 16 bits: how constants are brought into it, and steps to it and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import is_same, is_symbolic
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.steps import Steps

MOST_WOVEN = 4
"""Up to so many channels are woven into each other by code of their own."""

UNIT_BYTES = 1 << 14
SMALLEST_UNIT_PIXELS = 16

WORDS = WordLayout.parse("source target channels pixels unit_pixels image_units")


def emit_channels_last(facts: Facts, steps: Steps, value: Value, source: Buf, target: Buf, layout: Layout) -> None:
    """Fill ``target`` with ``value`` (N, C, ...) of 8 or 16 bits in ``layout`` from ``source``, which holds it in the
    other one of PLAIN and CHANNELS_LAST."""
    n, c, *spatial = facts.shape(value)
    pixels = math.prod(spatial)
    size = facts.size(value)
    unit = SMALLEST_UNIT_PIXELS
    if not is_symbolic(c):
        unit = max(UNIT_BYTES // max(c, 1) // SMALLEST_UNIT_PIXELS, 1) * SMALLEST_UNIT_PIXELS
    parts = -(-pixels // unit)
    bits = facts.dtype(value).bits
    woven = c if not is_symbolic(c) and 2 <= c <= MOST_WOVEN else 0
    steps.emit(
        conversion_kernel(woven, layout is Layout.CHANNELS_LAST, bits),
        {
            "source": source,
            "target": target,
            "channels": c,
            "pixels": pixels,
            "unit_pixels": unit,
            "image_units": parts,
        },
        extent=0 if is_same(size, 0) else n * parts,
        work=size / 2,
        name="ToChannelsLast" if layout is Layout.CHANNELS_LAST else "FromChannelsLast",
    )


def shape_channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    """The sizes of an (N, C, ...) tensor in the order in which its axes lie in the CHANNELS_LAST layout."""
    return (shape[0], *shape[2:], shape[1])


def axis_channels_last(axis: int, rank: int) -> int:
    """Where an axis of an (N, C, ...) tensor lies in the CHANNELS_LAST layout."""
    return axis if axis == 0 else rank - 1 if axis == 1 else axis - 1


def conversion_kernel(woven: int, to_channels_last: bool, bits: int = 8) -> KernelSource:
    """The kernel that converts to or from CHANNELS_LAST; ``woven``: for so many channels, 0 for any number."""
    wide = "" if bits == 8 else f"_words_{bits}"
    symbol = f"{'to' if to_channels_last else 'from'}_channels_last{f'_of_{woven}' if woven else ''}{wide}"
    generator = "mace_cpu.shared.layouts.generate_channels_last"
    return generated(generator, symbol, woven, to_channels_last, bits, words=lambda: WORDS)


def pack_channels_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An (N, C, ...) array as it lies in the CHANNELS_LAST layout."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim > 2 else np.ascontiguousarray(array)
