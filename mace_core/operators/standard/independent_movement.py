"""Independent axes of operators that move elements."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mace_core.operators.context import Ints, normalize_axis
from mace_core.operators.independence import AxesContext, Lane, same_axes
from mace_core.operators.registry import independent_axes
from mace_core.operators.standard.movement import axes_argument, pad_amounts, slice_ranges

SHAPE_IS_INPUT_SINCE = 5
"""Of Reshape."""

REPEATS_ARE_PER_AXIS_SINCE = 6
"""Of Tile."""

AXIS_IS_REQUIRED_SINCE = 4
"""Of Concat."""


def surviving_axes(before: Ints, after: Ints) -> list[tuple[int, int]]:
    """Axes of a tensor in row-major order that another shape of the same elements has too: (before, after).

    An axis survives where the axes in front of it hold as many elements in both shapes, and it has the same size.
    """
    if not math.prod(before):
        return []
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        own, other = [i], [j]
        left, right = before[i], after[j]
        while left != right:
            if left < right:
                own.append(own[-1] + 1)
                left *= before[own[-1]]
            else:
                other.append(other[-1] + 1)
                right *= after[other[-1]]
        i, j = own[-1] + 1, other[-1] + 1
        if len(own) > 1 or len(other) > 1:  # what is joined and split; an axis among sizes of 1 is still by itself
            own = [axis for axis in own if before[axis] != 1]
            other = [axis for axis in other if after[axis] != 1]
        if len(own) == len(other) == 1:
            found.append((own[0], other[0]))
    return found


@independent_axes("Reshape")
def reshape(ctx: AxesContext) -> Iterator[Lane]:
    if ctx.opset < SHAPE_IS_INPUT_SINCE:
        return
    target = ctx.ints(1)
    for axis, place in surviving_axes(ctx.shape(0), ctx.result()):
        stated = target[place]
        if stated > 0:
            yield Lane(((0, axis),), ((0, place),), ((1, place),))
        elif stated == -1 or axis == place:  # 0 takes the size of the same axis
            yield Lane(((0, axis),), ((0, place),))


@independent_axes("Flatten")
def flatten(ctx: AxesContext) -> Iterator[Lane]:
    for axis, place in surviving_axes(ctx.shape(0), ctx.result()):
        yield Lane(((0, axis),), ((0, place),))


@independent_axes("Squeeze")
def squeeze(ctx: AxesContext) -> Iterator[Lane]:
    shape = ctx.shape(0)
    given = axes_argument(ctx)
    if given is None:
        return  # which axes are left depends on their sizes
    gone = {normalize_axis(axis, len(shape)) for axis in given}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    for place, axis in enumerate(kept):
        yield Lane(((0, axis),), ((0, place),))


@independent_axes("Unsqueeze")
def unsqueeze(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.result())
    new = {normalize_axis(axis, rank) for axis in axes_argument(ctx) or ()}
    kept = [place for place in range(rank) if place not in new]
    for axis, place in enumerate(kept):
        yield Lane(((0, axis),), ((0, place),))


@independent_axes("Transpose")
def transpose(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    for place, axis in enumerate(ctx.attr("perm") or reversed(range(rank))):
        yield Lane(((0, axis),), ((0, place),))


@independent_axes("Concat")
def concat(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    joined = normalize_axis(ctx.attr("axis", 1 if ctx.opset < AXIS_IS_REQUIRED_SINCE else 0), rank)
    for axis in range(rank):
        if axis != joined:
            yield Lane(tuple((index, axis) for index in range(ctx.input_count)), ((0, axis),))


@independent_axes("Split")
def split(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, {normalize_axis(ctx.attr("axis", 0), len(ctx.shape(0)))})


@independent_axes("Slice")
def slice_(ctx: AxesContext) -> Iterator[Lane]:
    return same_axes(ctx, slice_ranges(ctx, ctx.shape(0)))


@independent_axes("Pad")
def pad(ctx: AxesContext) -> Iterator[Lane]:
    amounts = pad_amounts(ctx, len(ctx.shape(0)))
    return same_axes(ctx, {axis for axis, amount in enumerate(amounts) if amount != (0, 0)})


@independent_axes("Tile")
def tile(ctx: AxesContext) -> Iterator[Lane]:
    if ctx.opset < REPEATS_ARE_PER_AXIS_SINCE:
        return iter(())
    return same_axes(ctx, {axis for axis, count in enumerate(ctx.ints(1)) if count != 1})


@independent_axes("Expand")
def expand(ctx: AxesContext) -> Iterator[Lane]:
    shape, result, target = ctx.shape(0), ctx.result(), ctx.ints(1)
    for axis, size in enumerate(shape):
        place = axis - len(shape) + len(result)
        element = place - len(result) + len(target)
        if size == result[place]:
            states = element >= 0 and target[element] != 1
            yield Lane(((0, axis),), ((0, place),), ((1, element),) if states else ())


@independent_axes("DepthToSpace", "SpaceToDepth")
def blocks(ctx: AxesContext) -> Iterator[Lane]:
    yield Lane(((0, 0),), ((0, 0),))


@independent_axes("Trilu")
def triangle(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    return same_axes(ctx, (rank - 2, rank - 1))


@independent_axes("ReverseSequence")
def reverse_sequence(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    batch, time = normalize_axis(ctx.attr("batch_axis", 1), rank), normalize_axis(ctx.attr("time_axis", 0), rank)
    yield from same_axes(ctx, {batch, time})
    if batch != time:
        yield Lane(((0, batch), (1, 0)), ((0, batch),))


# --- indexing ---------------------------------------------------------------------------------------------------------


@independent_axes("Gather")
def gather(ctx: AxesContext) -> Iterator[Lane]:
    rank, indices = len(ctx.shape(0)), len(ctx.shape(1))
    along = normalize_axis(ctx.attr("axis", 0), rank)
    for axis in range(rank):
        if axis != along:
            yield Lane(((0, axis),), ((0, axis if axis < along else axis - 1 + indices),))
    for axis in range(indices):
        yield Lane(((1, axis),), ((0, along + axis),))


@independent_axes("GatherElements")
def gather_elements(ctx: AxesContext) -> Iterator[Lane]:
    data, indices = ctx.shape(0), ctx.shape(1)
    along = normalize_axis(ctx.attr("axis", 0), len(data))
    for axis in range(len(data)):
        if axis == along:
            yield Lane(((1, axis),), ((0, axis),))
        elif data[axis] == indices[axis]:
            yield Lane(((0, axis), (1, axis)), ((0, axis),))


@independent_axes("GatherND")
def gather_nd(ctx: AxesContext) -> Iterator[Lane]:
    rank, indices = len(ctx.shape(0)), ctx.shape(1)
    batch, last = ctx.attr("batch_dims", 0), len(indices) - 1
    for axis in range(last):
        yield Lane(((0, axis), (1, axis)) if axis < batch else ((1, axis),), ((0, axis),))
    for axis in range(batch + indices[-1], rank):
        yield Lane(((0, axis),), ((0, last + axis - batch - indices[-1]),))


@independent_axes("ScatterElements")
def scatter_elements(ctx: AxesContext) -> Iterator[Lane]:
    data = ctx.shape(0)
    along = normalize_axis(ctx.attr("axis", 0), len(data))
    for axis, size in enumerate(data):
        if axis != along and ctx.shape(1)[axis] == ctx.shape(2)[axis] == size:
            yield Lane(((0, axis), (1, axis), (2, axis)), ((0, axis),))


@independent_axes("ScatterND")
def scatter_nd(ctx: AxesContext) -> Iterator[Lane]:
    indices = ctx.shape(1)
    for axis in range(indices[-1], len(ctx.shape(0))):
        yield Lane(((0, axis), (2, len(indices) - 1 + axis - indices[-1])), ((0, axis),))


@independent_axes("OneHot")
def one_hot(ctx: AxesContext) -> Iterator[Lane]:
    rank = len(ctx.shape(0))
    depth = normalize_axis(ctx.attr("axis", -1), rank + 1)
    for axis in range(rank):
        yield Lane(((0, axis),), ((0, axis if axis < depth else axis + 1),))
