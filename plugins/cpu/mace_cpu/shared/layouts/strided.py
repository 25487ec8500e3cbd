"""Steps that move elements between two strided views: what most data movement operators are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.shared.checks import all_concrete
from mace_cpu.shared.layouts.moving import TRANSPOSE_BAND, copy_kernel, strided_rows_kernel, transpose_kernel
from mace_cpu.shared.program.buffers import At, Buf, Layout, element_bytes
from mace_cpu.shared.program.program import Program, Word
from mace_cpu.shared.program.views import Strided

COPYING = "mace_cpu.shared.layouts.kernels_channels"
COPY_BLOCK_BYTES = 16384
SHORTEST_MEMCPY_BYTES = 64
SMALLEST_TRANSPOSE = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a copy: extent, and the strides on both sides in elements."""

    size: int
    source: int
    target: int


def movable(view: GraphView, node: Node) -> str | None:
    """A reason if the node's tensors are not of known shape, or strings."""
    reason = all_concrete(view, node)
    if reason is not None:
        return reason
    for value in (*node.inputs, *node.outputs):
        if value is not None:
            found = view.tensor_type(value)
            if found is None or not is_movable(found.dtype):
                kind = "unknown" if found is None else found.dtype.label
                return f"'{value.name}' is {kind}, which has no elements of some number of bytes to move"
    return None


def is_movable(dtype: DType) -> bool:
    return dtype is not DType.STRING


def strides_of(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return strides


def blocked_shape(program: Program, value: Value) -> tuple[int, ...]:
    """(N, blocks, *spatial, block): the BLOCKED layout as a plain shape."""
    n, c, *spatial = program.shape(value)
    return (n, -(-c // program.block), *spatial, program.block)


def prefers_blocked(program: Program, value: Value) -> bool:
    """Whether the value lies in memory in the BLOCKED layout only."""
    return program.has(value, Layout.BLOCKED) and not program.has(value, Layout.PLAIN)


def read_axes(program: Program, value: Value) -> tuple[Buf, list[list[tuple[int, int]]]]:
    """The buffer of ``value`` and, per axis, the (size, stride) pairs that make it up.

    A BLOCKED value whose channels fill the blocks is read where it lies: its channel axis has two parts.
    """
    shape = program.shape(value)
    if prefers_blocked(program, value) and shape[1] % program.block == 0:
        physical = blocked_shape(program, value)
        strides = strides_of(physical)
        axes = [[(size, stride)] for size, stride in zip(physical[:-1], strides, strict=False)]
        axes[1].append((program.block, 1))
        return program.read(value, Layout.BLOCKED), axes
    return program.read(value), [[pair] for pair in zip(shape, strides_of(shape), strict=True)]


def emit_strided(
    program: Program,
    dtype: DType,
    source: Buf,
    target: Buf,
    axes: Sequence[Axis],
    *,
    source_offset: int = 0,
    target_offset: int = 0,
) -> None:
    """Copy the elements that ``axes`` span; offsets are in elements."""
    width = element_bytes(dtype)
    if width == 16:
        axes = [*(Axis(a.size, 2 * a.source, 2 * a.target) for a in axes), Axis(2, 1, 1)]
        source_offset, target_offset, width = 2 * source_offset, 2 * target_offset, 8
    if math.prod(a.size for a in axes) == 0:
        return
    merged = merge(axes)
    start, end = At(source, source_offset * width), At(target, target_offset * width)
    if is_contiguous(axes):
        emit_bytes(program, start, end, merged[0].size * width)
        return
    swap = _transposed_axis(merged)
    if swap is not None:
        _emit_transpose(program, start, end, merged, swap, width)
        return
    while len(merged) < 2:
        merged.insert(0, Axis(1, 0, 0))
    last = merged[-1]
    if last.source == last.target == 1:
        inner = "memory" if last.size * width >= SHORTEST_MEMCPY_BYTES else "dense"
    else:
        inner = "gather" if last.target == 1 else "strided"
    program.emit(
        strided_rows_kernel(width, inner),
        {"source": start, "target": end, **_columns(merged)},
        extent=math.prod(a.size for a in merged[:-1]),
        work=math.prod(a.size for a in merged),
    )


def emit_dense(program: Program, value: Value, strided: Strided) -> None:
    """Copy a value that was only shown so far."""
    shape = program.shape(value)
    axes = [Axis(*axis) for axis in zip(strided.shape, strided.strides, strides_of(shape), strict=True)]
    with program.on_behalf_of(strided.nodes):
        emit_strided(
            program, program.dtype(value), strided.buf, program.write(value), axes, source_offset=strided.offset
        )


SMALLEST_LANE_GROUP = 4


def lane_group(program: Program, *channels: int) -> int:
    """The most channels that divide all of these numbers and the block; 0 where that is too few to be worth it."""
    group = math.gcd(program.block, *channels)
    return group if group >= SMALLEST_LANE_GROUP else 0


def emit_channels(
    program: Program, source: Value, target: Value, buf: Buf, *, group: int, count: int, first: int = 0, at: int = 0
) -> None:
    """Copy ``count`` channels from ``first`` on to ``at`` between BLOCKED values, alike but for their channels.

    Args:
        buf: where ``target`` is written in the BLOCKED layout.
        group: channels moved together, less than a block; divides ``first`` and ``at``.  If it does not divide
            ``count``, these are the last channels of the target, and what follows them goes to spare lanes.
    """
    n, _, *spatial = program.shape(source)
    pixels = math.prod(spatial)
    groups = -(-count // group)
    source_blocks, target_blocks = (-(-program.shape(value)[1] // program.block) for value in (source, target))
    program.emit(
        numba_source(COPYING, "lane_groups", group=str(group)),
        {
            "source": program.read(source, Layout.BLOCKED),
            "target": buf,
            "groups": groups,
            "pixels": pixels,
            "block": program.block,
            "source_blocks": source_blocks,
            "target_blocks": target_blocks,
            "source_group": first // group,
            "target_group": at // group,
        },
        extent=n * groups,
        work=n * count * pixels / 4,
    )


def emit_bytes(program: Program, source: At, target: At, nbytes: int) -> None:
    """Copy a contiguous range."""
    program.emit(
        copy_kernel(),
        {"source": source, "target": target, "nbytes": nbytes, "unit_bytes": COPY_BLOCK_BYTES},
        extent=-(-nbytes // COPY_BLOCK_BYTES),
        work=nbytes / 4,
    )


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """The same copy with axes of one element dropped and neighbours that are contiguous on both sides joined."""
    merged: list[Axis] = []
    for axis in axes:
        if axis.size == 1:
            continue
        if merged:
            outer = merged[-1]
            if outer.source == axis.size * axis.source and outer.target == axis.size * axis.target:
                merged[-1] = Axis(outer.size * axis.size, axis.source, axis.target)
                continue
        merged.append(axis)
    return merged or [Axis(1, 1, 1)]


def is_contiguous(axes: Sequence[Axis]) -> bool:
    """Whether the axes span one piece of memory on both sides."""
    merged = merge(axes)
    return len(merged) == 1 and (merged[0].size == 1 or merged[0].source == merged[0].target == 1)


def _transposed_axis(axes: Sequence[Axis]) -> int | None:
    """The axis that is contiguous in the source while the last one is contiguous in the target."""
    if axes[-1].target != 1 or axes[-1].source in (0, 1) or axes[-1].size < SMALLEST_TRANSPOSE:
        return None
    for i, axis in enumerate(axes[:-1]):
        if axis.source == 1 and axis.size >= SMALLEST_TRANSPOSE:
            return i
    return None


def _emit_transpose(program: Program, source: At, target: At, axes: Sequence[Axis], swap: int, width: int) -> None:
    rows, columns = axes[swap], axes[-1]
    outer = [a for i, a in enumerate(axes[:-1]) if i != swap]
    planes = math.prod(a.size for a in outer)
    program.emit(
        transpose_kernel(width),
        {
            "source": source,
            "target": target,
            "columns": columns.size,
            "rows": rows.size,
            "source_step": columns.source,
            "target_step": rows.target,
            **_columns(outer),
        },
        extent=planes * -(-rows.size // TRANSPOSE_BAND),
        work=planes * rows.size * columns.size,
    )


def _columns(axes: Sequence[Axis]) -> dict[str, Word | Sequence[Word]]:
    return {
        "rank": len(axes),
        "sizes": [a.size for a in axes],
        "source_strides": [a.source for a in axes],
        "target_strides": [a.target for a in axes],
    }
