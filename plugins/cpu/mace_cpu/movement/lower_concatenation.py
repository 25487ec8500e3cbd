"""Concat: copies the parts that are not computed where they belong."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_cpu.shared.checks import movable
from mace_cpu.shared.layouts.channels_last import axis_channels_last, shape_channels_last
from mace_cpu.shared.layouts.strided import Axis, emit_strided, strides_of
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.blocked import blocked_shape, emit_channels, lane_group
from mace_cpu.shared.program.concatenation import channel_starts
from mace_cpu.shared.program.floats_last import show_floats_last, wants_channels_last
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


@lowers("Concat", check=movable)
def lower_concat(program: Program, node: Node) -> None:
    target = need(node.output(0))
    axis = normal_axis(int(node.attr("axis", 1)), len(program.facts.shape(target)))
    sources = [need(value) for value in node.inputs]
    place = program.values.grown(target)
    if place is not None:
        _append(program, node, place, axis, sources[1:])
        return
    sources = [value for value in sources if program.facts.size(value)]
    if axis == 1 and _concat_channels_last(program, node, sources):
        return
    blocked = _mostly_blocked(program, sources)
    if blocked and axis == 1:
        starts = channel_starts(program.facts, sources)
        group = lane_group(program, *starts)
        if group and group < program.settings.block:
            buf = program.values.write(target, Layout.BLOCKED)
            for value, start in zip(sources, starts, strict=True):
                emit_channels(program, value, target, buf, group=group, count=program.facts.shape(value)[1], at=start)
            return
        blocked = group == program.settings.block
    layout = Layout.BLOCKED if blocked else Layout.PLAIN
    if not blocked and _mostly_channels_last(program, sources):
        layout = Layout.CHANNELS_LAST
        axis = axis_channels_last(axis, len(program.facts.shape(target)))
    bufs = [program.values.read(value, layout) for value in sources]
    _emit(program, sources, bufs, target, program.values.write(target, layout), layout, axis)


def _concat_channels_last(program: Program, node: Node, sources: Sequence[Value]) -> bool:
    """Join floats whose channels lie last, and leave them so, where those behind want that."""
    target = need(node.output(0))
    lie = [program.values.shown_channels_last(value) for value in sources]
    bufs = [buf for buf in lie if buf is not None]
    if not lie or len(bufs) < len(lie) or not wants_channels_last(program, target):
        return False
    buf = Buf.scratch(program.facts.nbytes(target))
    last = len(program.facts.shape(target)) - 1
    _emit(program, sources, bufs, target, buf, Layout.CHANNELS_LAST, last)
    show_floats_last(program, node, target, buf)
    return True


def _emit(
    program: Program,
    sources: Sequence[Value],
    bufs: Sequence[Buf],
    target: Value,
    buf: Buf,
    layout: Layout,
    axis: int,
) -> None:
    """Copy what is not there yet; ``axis`` is among the axes as they lie in memory."""
    steps = strides_of(_as_it_lies(program, target, layout))
    width = element_bytes(program.facts.dtype(target))
    start = 0
    for value, source in zip(sources, bufs, strict=True):
        own = _as_it_lies(program, value, layout)
        offset = start * steps[axis]
        start += own[axis]
        if source.whole is buf and source.start == offset * width:
            continue  # computed in its place
        axes = [Axis(*a) for a in zip(own, strides_of(own), steps, strict=True)]
        emit_strided(program.steps, program.facts.dtype(target), source, buf, axes, target_offset=offset)


def _append(program: Program, node: Node, place: Strided, axis: int, behind: Sequence[Value]) -> None:
    """Copy what comes behind the first part, which is in ``place`` already."""
    target = need(node.output(0))
    start = program.facts.shape(need(node.input(0)))[axis]
    for value in behind:
        count = program.facts.shape(value)[axis]
        if program.facts.size(value):
            source, part = program.values.strided(value), place.part(axis, start, 1, count)
            axes = [Axis(*a) for a in zip(source.shape, source.strides, part.strides, strict=True)]
            dtype = program.facts.dtype(target)
            offsets = {"source_offset": source.offset, "target_offset": part.offset}
            emit_strided(program.steps, dtype, source.buf, place.buf, axes, **offsets)
        start += count
    program.steps.remark("in place")
    program.values.grow(target, place, node)


def _as_it_lies(program: Program, value: Value, layout: Layout) -> Sequence[int]:
    """The shape of a value in the order in which its axes lie in memory."""
    if layout is Layout.BLOCKED:
        return blocked_shape(program, value)
    shape = program.facts.shape(value)
    return shape_channels_last(shape) if layout is Layout.CHANNELS_LAST else shape


def _mostly_channels_last(program: Program, sources: Sequence[Value]) -> bool:
    """Whether most elements of the inputs lie in the CHANNELS_LAST layout."""
    total = sum(program.facts.size(value) for value in sources)
    there = sum(program.facts.size(value) for value in sources if program.values.lies_channels_last(value))
    return 2 * there > total


def _mostly_blocked(program: Program, sources: Sequence[Value]) -> bool:
    """Whether most elements of the inputs lie in the BLOCKED layout, and the others can be brought into it."""
    total = sum(program.facts.size(value) for value in sources)
    there = sum(program.facts.size(value) for value in sources if program.values.prefers_blocked(value))
    return 2 * there > total and all(program.facts.constant_of(value) is None for value in sources)
