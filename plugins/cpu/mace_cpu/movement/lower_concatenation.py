"""Concat: parts that are computed where they belong, and the copying of those that are not."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.layouts.strided import (
    Axis,
    blocked_shape,
    emit_channels,
    emit_strided,
    lane_group,
    movable,
    prefers_blocked,
    strides_of,
)
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.program.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


def place_in_concatenation(program: Program, value: Value, layout: Layout) -> Buf | None:
    """Where in the result of a Concat that reads ``value`` it is to be computed.

    None where no Concat does, or where its part would not be one piece of memory: only the first axis with more than
    one element is laid out part after part, and in the BLOCKED layout parts have to begin with a block.
    """
    for node in program.view.users(value):
        if node.op_type != "Concat" or node.domain or program.is_ready(need(node.output(0))):
            continue
        start = _start_of(program, node, value, layout)
        if start is not None:
            nbytes = program.nbytes(value) if layout is Layout.PLAIN else program.blocked_nbytes(value)
            return program.reserve(need(node.output(0)), layout).part(start, nbytes)
    return None


def _start_of(program: Program, node: Node, value: Value, layout: Layout) -> int | None:
    """At which byte of the result the first part that is ``value`` begins; None where that is not one piece."""
    target = need(node.output(0))
    shape = program.shape(target)
    axis = normal_axis(int(node.attr("axis", 1)), len(shape))
    dtype = program.dtype(value)
    if any(dim != 1 for dim in shape[:axis]) or dtype is DType.STRING or program.size(value) == 0:
        return None
    sources = [need(source) for source in node.inputs]
    before = sources[: sources.index(value)]
    if layout is Layout.PLAIN:
        return sum(program.nbytes(source) for source in before)
    starts = _channel_starts(program, [source for source in sources if program.size(source)])
    if axis != 1 or dtype is not DType.FLOAT32 or any(start % program.block for start in starts):
        return None
    return sum(program.blocked_nbytes(source) for source in before)


@lowers("Concat", check=movable)
def lower_concat(program: Program, node: Node) -> None:
    target = need(node.output(0))
    axis = normal_axis(int(node.attr("axis", 1)), len(program.shape(target)))
    sources = [need(value) for value in node.inputs]
    sources = [value for value in sources if program.size(value)]
    blocked = _mostly_blocked(program, sources)
    if blocked and axis == 1:
        starts = _channel_starts(program, sources)
        group = lane_group(program, *starts)
        if group and group < program.block:
            buf = program.write(target, Layout.BLOCKED)
            for value, start in zip(sources, starts, strict=True):
                emit_channels(program, value, target, buf, group=group, count=program.shape(value)[1], at=start)
            return
        blocked = group == program.block
    layout = Layout.BLOCKED if blocked else Layout.PLAIN
    bufs = [program.read(value, layout) for value in sources]
    shape = blocked_shape(program, target) if blocked else program.shape(target)
    buf = program.write(target, layout)
    steps = strides_of(shape)
    width = element_bytes(program.dtype(target))
    start = 0
    for value, source in zip(sources, bufs, strict=True):
        own = blocked_shape(program, value) if blocked else program.shape(value)
        offset = start * steps[axis]
        start += own[axis]
        if source.whole is buf and source.start == offset * width:
            continue  # computed in its place
        axes = [Axis(*a) for a in zip(own, strides_of(own), steps, strict=True)]
        emit_strided(program, program.dtype(target), source, buf, axes, target_offset=offset)


def _channel_starts(program: Program, sources: Sequence[Value]) -> list[int]:
    """The first channel of each part."""
    return [sum(program.shape(value)[1] for value in sources[:i]) for i in range(len(sources))]


def _mostly_blocked(program: Program, sources: Sequence[Value]) -> bool:
    """Whether most elements of the inputs lie in the BLOCKED layout, and the others can be brought into it."""
    total = sum(program.size(value) for value in sources)
    there = sum(program.size(value) for value in sources if prefers_blocked(program, value))
    return 2 * there > total and all(program.constant_of(value) is None for value in sources)
