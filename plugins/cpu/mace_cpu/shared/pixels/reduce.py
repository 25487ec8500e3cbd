"""Reducing all pixels of a value in blocks of channels to one per channel."""

from __future__ import annotations

import math

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.tensor import DType
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.program import Program

WORDS = WordLayout.parse("source target pixels divisor")


def emit_blocked_pixels(program: Program, source: Value, target: Value, kind: str) -> bool:
    """Reduce all pixels of a BLOCKED value to one per channel, where it lies so; ``kind`` is mean, sum or max.

    Returns False, having done nothing, where the value is not BLOCKED.
    """
    shape = program.facts.shape(source)
    pixels = math.prod(shape[2:])
    if program.facts.dtype(source) is not DType.FLOAT32 or not program.values.prefers_blocked(source) or pixels == 0:
        return False
    if len(program.facts.shape(target)) != len(shape):
        return False
    program.steps.emit(
        global_pool_kernel(program.settings.block, "max" if kind == "max" else "sum"),
        {
            "source": program.values.read(source, Layout.BLOCKED),
            "target": program.values.write(target, Layout.BLOCKED),
            "pixels": pixels,
            "divisor": pixels if kind == "mean" else 1,
        },
        extent=shape[0] * -(-shape[1] // program.settings.block),
        work=program.facts.size(source) / 2,
    )
    return True


def global_pool_kernel(block: int, kind: str) -> KernelSource:
    """The kernel that pools all pixels; kinds "max" and "sum"."""
    symbol = f"pool_all_b{block}_{kind}"
    return generated("mace_cpu.shared.pixels.generate", symbol, block, kind, words=lambda: WORDS)
