"""In which order elementwise steps over quantized numbers walk them, and how their operands lie in it."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Value
from mace_cpu.elementwise.operands import aligned, dense_strides
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.facts import are_same
from mace_cpu.shared.program.program import Program


def best_layout(program: Program, values: Sequence[Value], result: Value) -> Layout:
    """CHANNELS_LAST where some operand of the result's shape lies so and in no other layout, PLAIN otherwise."""
    shape = program.facts.shape(result)
    for value in values:
        if are_same(program.facts.shape(value), shape) and program.values.prefers_channels_last(value):
            return Layout.CHANNELS_LAST
    return Layout.PLAIN


def walked(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The dimensions of a value of ``shape`` in the order in which they lie in memory."""
    return tuple(shape) if layout is Layout.PLAIN else (shape[0], *shape[2:], shape[1])


def place(program: Program, value: Value, shape: Sequence[int], layout: Layout) -> tuple[Buf, list[int]]:
    """The buffer of an operand that broadcasts to ``shape``, and its strides along `walked` dimensions."""
    own = aligned(program.facts.shape(value), len(shape))
    if layout is Layout.CHANNELS_LAST and len(program.facts.shape(value)) == len(shape):
        return program.values.read(value, layout), dense_strides(walked(own, layout), 1)
    strides = dense_strides(own, 1)
    if layout is Layout.CHANNELS_LAST:  # fewer axes, as they lie
        strides = [strides[0], *strides[2:], strides[1]]
    return program.values.read(value), strides
