"""Steps that move elements between two strided views: what most data movement operators are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.symbolic import hint, is_same, is_symbolic
from mace_core.tensor import DType
from mace_cpu.shared.layouts.moving import (
    TRANSPOSE_BAND,
    copy_kernel,
    strided_rows_kernel,
    transpose_kernel,
    woven_kernel,
)
from mace_cpu.shared.parts.buffers import At, Buf, element_bytes
from mace_cpu.shared.parts.steps import Steps, Word
from mace_cpu.shared.parts.views import Strided

COPY_BLOCK_BYTES = 16384
SHORTEST_MEMCPY_BYTES = 64
SMALLEST_TRANSPOSE = 4
LARGEST_PIXEL = 3
WOVEN_UNIT = 1024
"""Pixels of a unit that are taken apart or put together."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a copy: extent, and the strides on both sides in elements."""

    size: int
    source: int
    target: int


def strides_of(shape: Sequence[int]) -> list[int]:
    """Row-major strides in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return strides


def emit_strided(
    steps: Steps,
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
        emit_bytes(steps, start, end, merged[0].size * width)
        return
    woven = _woven(merged) if width == 4 else None
    if woven is not None:
        _emit_woven(steps, start, end, merged, woven)
        return
    swap = _transposed_axis(merged)
    if swap is not None:
        _emit_transpose(steps, start, end, merged, swap, width)
        return
    while len(merged) < 2:
        merged.insert(0, Axis(1, 0, 0))
    last = merged[-1]
    if is_same(last.source, 1) and is_same(last.target, 1):
        inner = "memory" if hint(last.size) * width >= SHORTEST_MEMCPY_BYTES else "dense"
    else:
        inner = "gather" if is_same(last.target, 1) else "strided"
    steps.emit(
        strided_rows_kernel(width, inner),
        {"source": start, "target": end, **_columns(merged)},
        extent=math.prod(a.size for a in merged[:-1]),
        work=math.prod(a.size for a in merged),
    )


def emit_dense(steps: Steps, dtype: DType, strided: Strided, target: Buf) -> None:
    """Copy a value that was only shown so far."""
    axes = [Axis(*axis) for axis in zip(strided.shape, strided.strides, strides_of(strided.shape), strict=True)]
    with steps.on_behalf_of(strided.nodes):
        emit_strided(steps, dtype, strided.buf, target, axes, source_offset=strided.offset)


def emit_bytes(steps: Steps, source: At, target: At, nbytes: int) -> None:
    """Copy a contiguous range."""
    steps.emit(
        copy_kernel(),
        {"source": source, "target": target, "nbytes": nbytes, "unit_bytes": COPY_BLOCK_BYTES},
        extent=-(-nbytes // COPY_BLOCK_BYTES),
        work=nbytes / 4,
    )


def merge(axes: Sequence[Axis]) -> list[Axis]:
    """The same copy with axes of one element dropped and neighbors that are contiguous on both sides joined."""
    merged: list[Axis] = []
    for axis in axes:
        if is_same(axis.size, 1):
            continue
        if merged:
            outer = merged[-1]
            if is_same(outer.source, axis.size * axis.source) and is_same(outer.target, axis.size * axis.target):
                merged[-1] = Axis(outer.size * axis.size, axis.source, axis.target)
                continue
        merged.append(axis)
    return merged or [Axis(1, 1, 1)]


def is_contiguous(axes: Sequence[Axis]) -> bool:
    """Whether the axes span one piece of memory on both sides."""
    merged = merge(axes)
    first = merged[0]
    lies_in_order = is_same(first.source, 1) and is_same(first.target, 1)
    return len(merged) == 1 and (is_same(first.size, 1) or lies_in_order)


@dataclass(frozen=True, slots=True)
class _Woven:
    """Pixels of a few words each on one side, planes of them on the other.

    Attributes:
        channels, pixels: which axes these are.
        step: elements from plane to plane.
        is_apart: whether the planes are the target.
    """

    channels: int
    pixels: int
    step: int
    is_apart: bool


def _woven(axes: Sequence[Axis]) -> _Woven | None:
    """How the axes are pixels and planes, if they are."""
    last, inner = len(axes) - 1, axes[-1]
    for i, axis in enumerate(axes[:-1]):
        if not (is_same(axis.source, 1) and is_same(inner.target, 1)):
            continue
        if _is_pixel(axis) and is_same(inner.source, axis.size):
            return _Woven(i, last, axis.target, True)
        if _is_pixel(inner) and is_same(axis.target, inner.size):
            return _Woven(last, i, inner.source, False)
    return None


def _is_pixel(axis: Axis) -> bool:
    return not is_symbolic(axis.size) and 2 <= axis.size <= LARGEST_PIXEL


def _emit_woven(steps: Steps, source: At, target: At, axes: Sequence[Axis], woven: _Woven) -> None:
    count, pixels = axes[woven.channels].size, axes[woven.pixels].size
    outer = [axis for i, axis in enumerate(axes) if i not in (woven.channels, woven.pixels)]
    planes = math.prod(a.size for a in outer)
    steps.emit(
        woven_kernel(count, woven.is_apart),
        {
            "source": source,
            "target": target,
            "pixels": pixels,
            "step": woven.step,
            "unit_pixels": WOVEN_UNIT,
            **_columns(outer),
        },
        extent=planes * -(-pixels // WOVEN_UNIT),
        work=planes * count * pixels,
    )


def _transposed_axis(axes: Sequence[Axis]) -> int | None:
    """The axis that is contiguous in the source while the last one is contiguous in the target."""
    last = axes[-1]
    if not is_same(last.target, 1) or is_same(last.source, 0) or is_same(last.source, 1):
        return None
    if hint(last.size) < SMALLEST_TRANSPOSE:
        return None
    for i, axis in enumerate(axes[:-1]):
        if is_same(axis.source, 1) and hint(axis.size) >= SMALLEST_TRANSPOSE:
            return i
    return None


def _emit_transpose(steps: Steps, source: At, target: At, axes: Sequence[Axis], swap: int, width: int) -> None:
    rows, columns = axes[swap], axes[-1]
    outer = [a for i, a in enumerate(axes[:-1]) if i != swap]
    planes = math.prod(a.size for a in outer)
    steps.emit(
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
