"""Steps that move a value from one layout or buffer to another without changing it."""

from __future__ import annotations

import math

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
