"""Operators that rearrange elements: views, Transpose, Split, Slice, Expand, Tile, depth and space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mace_core.graph import GraphView, Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete, movable
from mace_cpu.shared.layouts.strided import Axis, emit_strided, is_contiguous, strides_of
from mace_cpu.shared.nodes import fixed, integers, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout, element_bytes
from mace_cpu.shared.parts.views import Folded, Strided
from mace_cpu.shared.program.blocked import blocked_shape, emit_channels, lane_group, read_axes
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

# --- views ------------------------------------------------------------------------------------------------------------


def _dense(view: GraphView, node: Node) -> str | None:
    """Views only need their shapes, and bytes at all: packed kinds are fine, strings are not."""
    reason = all_concrete(view, node)
    if reason is None:
        found = view.tensor_type(need(node.output(0)))
        if found is None or found.dtype is DType.STRING:
            return "strings are not tensors of bytes"
    return reason


@lowers("Reshape", "Flatten", "Squeeze", "Unsqueeze", check=_dense)
def lower_view(program: Program, node: Node) -> None:
    """The output is the input's memory under another shape."""
    source, target = need(node.input(0)), need(node.output(0))
    if program.values.is_shown(source):
        strided = program.values.strided(source)
        reshaped = strided.reshaped(program.facts.shape(target))
        if reshaped is not None:
            program.values.show(target, reshaped, node)
            return
        folded = Folded.of(strided, program.facts.shape(target)) if is_repeated(strided) else None
        if folded is not None:
            program.values.fold(target, folded, node)
            return
    program.values.alias(target, program.values.read(source))


# --- Transpose --------------------------------------------------------------------------------------------------------


@lowers("Transpose", check=movable)
def lower_transpose(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    rank = len(program.facts.shape(source))
    order = node.attr("perm") or tuple(reversed(range(rank)))
    folded = program.values.folded(source)
    if folded is not None:
        program.values.fold(target, folded.permuted(order), node)
        return
    if program.values.can_show(source):
        program.values.show(target, program.values.strided(source).permuted(order), node)
        return
    buf, parts = read_axes(program, source)
    emit_permuted(program, program.facts.dtype(source), buf, target, [part for axis in order for part in parts[axis]])


def is_repeated(strided: Strided) -> bool:
    """Whether it shows some elements more than once."""
    return any(
        is_same(step, 0) and not is_same(size, 1) for size, step in zip(strided.shape, strided.strides, strict=True)
    )


def emit_permuted(program: Program, dtype: DType, buf: Buf, target: Value, parts: Sequence[tuple[int, int]]) -> None:
    """Fill ``target`` row by row from (size, source stride) parts that make up its axes in order."""
    steps = strides_of([size for size, _ in parts])
    axes = [Axis(size, stride, step) for (size, stride), step in zip(parts, steps, strict=True)]
    emit_strided(program.steps, dtype, buf, program.values.write(target), axes)


@lowers("DepthToSpace", "SpaceToDepth", check=movable)
def lower_depth_and_space(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape, size = program.facts.shape(source), int(node.attr("blocksize"))
    n, c, h, w = shape
    if node.op_type == "SpaceToDepth":
        split: tuple[int, ...] = (n, c, h // size, size, w // size, size)
        order: tuple[int, ...] = (0, 1, 3, 5, 2, 4) if node.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    elif node.attr("mode", "DCR") == "CRD":
        split, order = (n, c // size**2, size, size, h, w), (0, 1, 4, 2, 5, 3)
    else:
        split, order = (n, size, size, c // size**2, h, w), (0, 3, 4, 1, 5, 2)
    strides = strides_of(split)
    emit_permuted(
        program,
        program.facts.dtype(source),
        program.values.read(source),
        target,
        [(split[axis], strides[axis]) for axis in order],
    )


# --- repetition -------------------------------------------------------------------------------------------------------


@lowers("Expand", check=movable)
def lower_expand(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    shape = program.facts.shape(target)
    if program.facts.size(target) and _is_better_shown(program, source, target):
        program.values.show(target, program.values.strided(source).repeated(shape), node)
        return
    buf, axes = read_axes(program, source)
    missing = len(shape) - len(axes)
    parts: list[tuple[int, int]] = [(size, 0) for size in shape[:missing]]
    for size, own, axis in zip(shape[missing:], program.facts.shape(source), axes, strict=True):
        parts.extend(axis if own == size else [(size, 0)])
    emit_permuted(program, program.facts.dtype(source), buf, target, parts)


def _is_better_shown(program: Program, source: Value, target: Value) -> bool:
    """Whether what is repeated would be copied for it, or is going to be heads that are repeated."""
    if program.values.is_shown(source):
        return True
    user = program.fusion.sole_user(target)
    return user is not None and user.op_type == "Reshape" and program.values.can_show(source)


def _check_tile(view: GraphView, node: Node) -> str | None:
    if view.opset() < 6:
        return "Tile before opset 6 has another form"
    return movable(view, node)


@lowers("Tile", check=_check_tile)
def lower_tile(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    if program.facts.size(target) == 0:
        program.values.write(target)
        return
    buf, axes = read_axes(program, source)
    parts: list[tuple[int, int]] = []
    for size, own, axis in zip(program.facts.shape(target), program.facts.shape(source), axes, strict=True):
        parts.extend([(size // own, 0), *axis])
    emit_permuted(program, program.facts.dtype(source), buf, target, parts)


# --- Split -----------------------------------------------------------------------------------------------------------


def _check_split(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node)
    if reason is None and None in node.outputs and view.opset() >= 13:
        reason = fixed(view, node, 1, "where to split")
    return reason


@lowers("Split", check=_check_split)
def lower_split(program: Program, node: Node) -> None:
    source = need(node.input(0))
    axis = normal_axis(int(node.attr("axis", 0)), len(program.facts.shape(source)))
    start = 0
    for value, size in zip(node.outputs, split_sizes(program, node, axis), strict=True):
        if value is not None:
            emit_part(program, node, source, value, {axis: (start, 1)})
        start += size


def split_sizes(program: Program, node: Node, axis: int) -> list[int]:
    """How long each output is along ``axis``, outputs that are left out included."""
    if None not in node.outputs:
        return [program.facts.shape(need(value))[axis] for value in node.outputs]
    given = node.attr("split") or integers(program.facts.view, node.input(1))
    if given is not None:
        return [int(size) for size in given]
    total, count = program.facts.shape(need(node.input(0)))[axis], len(node.outputs)
    size = -(-total // count)
    return [min(size, total - i * size) for i in range(count)]


# --- Slice ------------------------------------------------------------------------------------------------------------


def _check_slice(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node)
    for index, what in enumerate(("", "where the slice starts", "where the slice ends", "its axes", "its steps")):
        if index and view.opset() >= 10:
            reason = reason or fixed(view, node, index, what)
    return reason


@lowers("Slice", check=_check_slice)
def lower_slice(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    emit_part(program, node, source, target, slice_ranges(program.facts.view, node, program.facts.shape(source)))


def slice_ranges(view: GraphView, node: Node, shape: Sequence[int]) -> dict[int, tuple[int, int]]:
    """First index and step per axis that is sliced."""
    if view.opset() < 10:
        starts = list(node.attr("starts"))
        axes, steps = node.attr("axes"), None
    else:
        starts = integers(view, node.input(1)) or []
        axes, steps = integers(view, node.input(3)), integers(view, node.input(4))
    axes = list(range(len(starts))) if axes is None else [normal_axis(int(a), len(shape)) for a in axes]
    steps = [1] * len(starts) if steps is None else steps
    ranges: dict[int, tuple[int, int]] = {}
    for axis, start, step in zip(axes, starts, steps, strict=True):
        start = start + shape[axis] if start < 0 else start
        last = shape[axis] if step > 0 else shape[axis] - 1
        ranges[axis] = (max(min(start, last), 0), step)
    return ranges


def emit_part(
    program: Program, node: Node, source: Value, target: Value, ranges: Mapping[int, tuple[int, int]]
) -> None:
    """Take the part of ``source`` that starts at the given index of each axis and takes every ``step``-th element.

    One piece of memory is not copied: the part is where it lies.
    """
    if program.facts.size(target) == 0:
        program.values.write(target)
        return
    if program.values.can_show(source):
        strided = program.values.strided(source)
        for axis, (first, step) in ranges.items():
            strided = strided.part(axis, first, step, program.facts.shape(target)[axis])
        program.values.show(target, strided, node)
        return
    blocked = program.values.prefers_blocked(source)
    if blocked:
        first, step = ranges.get(1, (0, 1))
        group = lane_group(program, first) if step == 1 else 0
        if group and group < program.settings.block and all(axis == 1 for axis in ranges):
            buf = program.values.write(target, Layout.BLOCKED)
            emit_channels(program, source, target, buf, group=group, count=program.facts.shape(target)[1], first=first)
            return
        blocked = group == program.settings.block
    layout = Layout.BLOCKED if blocked else Layout.PLAIN
    own = blocked_shape(program, source) if blocked else program.facts.shape(source)
    shape = blocked_shape(program, target) if blocked else program.facts.shape(target)
    strides = strides_of(own)
    offset = 0
    axes: list[Axis] = []
    for axis, (size, stride, step) in enumerate(zip(shape, strides, strides_of(shape), strict=True)):
        first, by = ranges.get(axis, (0, 1))
        if blocked and axis == 1:
            first //= program.settings.block
        offset += first * stride
        axes.append(Axis(size, by * stride, step))
    buf, width = program.values.read(source, layout), element_bytes(program.facts.dtype(source))
    if is_contiguous(axes) and not (layout is Layout.PLAIN and program.facts.view.is_output(target)):
        program.values.alias(target, buf.part(offset * width, math.prod(shape) * width), layout)
        return
    emit_strided(
        program.steps,
        program.facts.dtype(source),
        buf,
        program.values.write(target, layout),
        axes,
        source_offset=offset,
    )


def _check_bit_cast(view: GraphView, node: Node) -> str | None:
    reason = movable(view, node)
    if reason is None:
        before, after = view.tensor_type(need(node.input(0))), view.tensor_type(need(node.output(0)))
        assert before is not None and after is not None
        if before.dtype.bits != after.dtype.bits:
            return f"{before.dtype.label} and {after.dtype.label} are not of one width"
        if before.dtype.is_packed and before.dtype is not after.dtype:
            return f"elements of {before.dtype.bits} bits are not held as ONNX stores them"
    return reason


@lowers("BitCast", check=_check_bit_cast)
def lower_bit_cast(program: Program, node: Node) -> None:
    program.values.alias(need(node.output(0)), program.values.read(need(node.input(0))))
