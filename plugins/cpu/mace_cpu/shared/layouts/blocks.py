"""The BLOCKED layout: how constants are brought into it, and steps that bring values into it and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_cpu.shared.layouts.moving import conversion_kernel, copy_kernel
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.steps import Steps

PIXELS_PER_UNIT = 512
COPY_UNIT_BYTES = 1 << 16


def emit_conversion(facts: Facts, steps: Steps, value: Value, source: Buf, target: Buf, layout: Layout) -> None:
    """Fill ``target`` with ``value`` (N, C, ...) in ``layout`` from ``source``, which holds it in the other one."""
    n, c, *spatial = facts.shape(value)
    pixels = math.prod(spatial)
    blocks = -(-c // facts.block)
    parts = max(-(-pixels // PIXELS_PER_UNIT), 1)
    kernel = conversion_kernel(facts.block, layout is Layout.BLOCKED)
    empty = n * c * pixels == 0
    steps.emit(
        kernel,
        {
            "source": source,
            "target": target,
            "channels": c,
            "pixels": pixels,
            "unit_pixels": PIXELS_PER_UNIT,
            "block_units": parts,
        },
        extent=0 if empty else n * blocks * parts,
        work=n * c * pixels,
        name="ToBlocked" if layout is Layout.BLOCKED else "ToPlain",
    )


def emit_copy(steps: Steps, source: Buf, target: Buf, nbytes: int) -> None:
    """Copy ``nbytes`` bytes."""
    steps.emit(
        copy_kernel(),
        {"source": source, "target": target, "nbytes": nbytes, "unit_bytes": COPY_UNIT_BYTES},
        extent=-(-nbytes // COPY_UNIT_BYTES),
        work=nbytes / 4,
        name="Copy",
    )


def shape_in_blocks(shape: Sequence[int], block: int) -> tuple[int, ...]:
    """(N, C, ...) as it lies in blocks: (N, ceil(C / block), ..., block)."""
    return (shape[0], -(-shape[1] // block), *shape[2:], block)


def pack_blocked(array: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    """An (N, C, ...) array in blocks of channels, spare lanes zero."""
    n, c, *spatial = array.shape
    padded = np.zeros((n, -(-c // block) * block, *spatial), array.dtype)
    padded[:, :c] = array
    blocks = padded.reshape(n, -1, block, *spatial)
    return np.ascontiguousarray(np.moveaxis(blocks, 2, -1))
