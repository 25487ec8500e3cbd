"""Operators that rearrange, cut, join and pad."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data, check_axes_of_data, check_axis, check_length, shown
from mace_core.operators.attributes.rule import LARGEST_NUMBER, Empty, axes, numbers, one_of, real
from mace_core.operators.checks import expect, expect_one, lists, require
from mace_core.operators.context import (
    Array,
    Ints,
    NodeContext,
    ShapeMismatchError,
    broadcast,
    normalize_axis,
    same_as_first,
)
from mace_core.operators.evaluation import Contents, first_content, output_shape
from mace_core.operators.registry import (
    agreement,
    evaluator,
    rank_check,
    shape_function,
    shapes_from_contents,
    symbolic_evaluator,
)
from mace_core.symbolic import ceiling
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("DepthToSpace", "SpaceToDepth", rules={"mode": one_of("DCR", "CRD")})
attribute_rules(
    "Pad",
    rules={
        "mode": one_of("constant", "reflect", "edge", "wrap"),
        "pads": numbers(-LARGEST_NUMBER, LARGEST_NUMBER, Empty.ALLOWED),
        "value": real(),
    },
)
attribute_rules("Reshape", rules={"shape": numbers(-1, LARGEST_NUMBER, Empty.ALLOWED)})
attribute_rules("Unsqueeze", rules={"axes": axes(Empty.ALLOWED)})

rank_check("CenterCropPad", "Squeeze")(check_axes_of_data)
rank_check("Concat")(axis_of_data("axis"))
rank_check("ReverseSequence")(axis_of_data("batch_axis", "time_axis"))


@rank_check("Flatten")
def check_flatten_axis(ctx: NodeContext) -> None:
    rank, axis = len(ctx.shape(0)), ctx.attr("axis", 1)
    if not -rank <= axis <= rank:
        check_axis("axis", axis, rank)


@rank_check("Pad")
def check_pad_lengths(ctx: NodeContext) -> None:
    for name in ("pads", "paddings"):
        check_length(ctx, name, 2 * len(ctx.shape(0)))


@rank_check("Slice")
def check_slice_attributes(ctx: NodeContext) -> None:
    check_axes_of_data(ctx)
    starts = ctx.attr("starts")
    if starts is not None:
        for name in ("ends", "axes"):
            check_length(ctx, name, len(starts))


_check_split_axis = axis_of_data("axis")


@rank_check("Split")
def check_split_attributes(ctx: NodeContext) -> None:
    _check_split_axis(ctx)
    check_length(ctx, "split", ctx.output_count)
    parts = ctx.attr("num_outputs")
    if parts is not None and parts != ctx.output_count:
        raise ShapeMismatchError(f"the attribute 'num_outputs' is {parts}, but the node has {ctx.output_count} outputs")


@rank_check("Transpose")
def check_permutation(ctx: NodeContext) -> None:
    order, rank = ctx.attr("perm"), len(ctx.shape(0))
    if order is not None and sorted(order) != list(range(rank)):
        raise ShapeMismatchError(f"the attribute 'perm' is not a permutation of {rank} axes: {shown(order)}")


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("ReverseSequence", "Trilu")(same_as_first)


def _same_dtype(ctx: NodeContext, shape: Ints) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(0), shape)]


def reshape_target(shape: Ints, wanted: Sequence[int], *, allow_zero: bool = False) -> Ints:
    """The shape a Reshape gives: 0 copies the input's dimension (unless ``allow_zero``), -1 takes what is left.

    Raises:
        ShapeMismatchError: if the elements do not fit.
    """
    dims = list(wanted)
    size = math.prod(shape)
    free = -1
    for axis, dim in enumerate(dims):
        if dim == 0 and not allow_zero:
            if axis >= len(shape):
                raise ShapeMismatchError(
                    f"dimension {axis} of {list(wanted)} copies an axis that {list(shape)} does not have"
                )
            dims[axis] = shape[axis]
        elif dim == -1:
            if free >= 0:
                raise ShapeMismatchError(f"{list(wanted)} leaves more than one dimension open")
            free = axis
        elif dim < -1:
            raise ShapeMismatchError(f"{list(wanted)} has a negative dimension")
    if free >= 0:
        dims[free] = 1
        rest = math.prod(dims)
        if rest == 0 or size % rest:
            raise ShapeMismatchError(f"{size} elements of {list(shape)} do not divide into {list(wanted)}")
        dims[free] = size // rest
    elif math.prod(dims) != size:
        raise ShapeMismatchError(f"{size} elements of {list(shape)} cannot take the shape {list(wanted)}")
    return tuple(dims)


@shape_function("Reshape")
def reshape(ctx: NodeContext) -> Sequence[ValueType]:
    wanted = ctx.attr("shape") if ctx.opset < 5 else ctx.ints(1)
    if wanted is None:
        raise ShapeMismatchError("the attribute 'shape' is required")
    return _same_dtype(ctx, reshape_target(ctx.shape(0), wanted, allow_zero=bool(ctx.attr("allowzero", 0))))


@shape_function("Flatten")
def flatten(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = ctx.attr("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        raise ShapeMismatchError(f"axis {axis} does not exist in {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return _same_dtype(ctx, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def axes_argument(ctx: NodeContext) -> Ints | None:
    """Axes of Squeeze and Unsqueeze: an attribute before opset 13, then input 1."""
    if ctx.opset < 13:
        axes = ctx.attr("axes")
        return None if axes is None else tuple(axes)
    return ctx.ints(1) if ctx.has(1) else None


@shape_function("Squeeze")
def squeeze(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    given = axes_argument(ctx)
    if given is None:
        return _same_dtype(ctx, tuple(size for size in shape if size != 1))
    axes = {normalize_axis(axis, len(shape)) for axis in given}
    for axis in axes:
        if shape[axis] != 1:
            raise ShapeMismatchError(f"axis {axis} of {list(shape)} must be 1 to be removed")
    return _same_dtype(ctx, tuple(size for axis, size in enumerate(shape) if axis not in axes))


@shape_function("Unsqueeze")
def unsqueeze(ctx: NodeContext) -> Sequence[ValueType]:
    given = axes_argument(ctx)
    if given is None:
        raise ShapeMismatchError("the axes are required")
    shape = ctx.shape(0)
    rank = len(shape) + len(given)
    axes = {normalize_axis(axis, rank) for axis in given}
    if len(axes) != len(given):
        raise ShapeMismatchError(f"the axes {list(given)} repeat")
    rest = iter(shape)
    return _same_dtype(ctx, tuple(1 if axis in axes else next(rest) for axis in range(rank)))


@shape_function("Transpose")
def transpose(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    order = ctx.attr("perm")
    if order is None:
        return _same_dtype(ctx, shape[::-1])
    if sorted(order) != list(range(len(shape))):
        raise ShapeMismatchError(f"perm {list(order)} is not a permutation of {len(shape)} axes")
    return _same_dtype(ctx, tuple([shape[axis] for axis in order]))


@shape_function("Concat")
def concat(ctx: NodeContext) -> Sequence[ValueType]:
    first = ctx.shape(0)
    axis = ctx.attr("axis", 1 if ctx.opset < 4 else None)
    if axis is None:
        raise ShapeMismatchError("the attribute 'axis' is required")
    axis = normalize_axis(axis, len(first))
    total = 0
    for index in range(ctx.input_count):
        shape = ctx.shape(index)
        if len(shape) != len(first) or shape[:axis] != first[:axis] or shape[axis + 1 :] != first[axis + 1 :]:
            raise ShapeMismatchError(
                f"all inputs must agree with {list(first)} outside axis {axis}, {list(shape)} does not"
            )
        total += shape[axis]
    return _same_dtype(ctx, (*first[:axis], total, *first[axis + 1 :]))


def split_sizes(ctx: NodeContext, size: int) -> Ints:
    """Lengths of the parts that Split makes of an axis of ``size``."""
    given: Ints | None = None
    if ctx.has(1):
        given = ctx.ints(1)
    elif ctx.opset < 13:
        given = ctx.attr("split")
    if given is not None:
        if sum(given) != size or len(given) != ctx.output_count or min(given) < 0:
            raise ShapeMismatchError(f"parts {list(given)} for {ctx.output_count} outputs do not add up to {size}")
        return tuple(given)
    parts = ctx.attr("num_outputs", ctx.output_count)
    if ctx.opset < 18 and size % parts:
        raise ShapeMismatchError(f"an axis of {size} does not split evenly into {parts} parts")
    length = -(-size // parts)
    return tuple(max(0, min(length, size - length * i)) for i in range(parts))


@shape_function("Split")
def split(ctx: NodeContext) -> Sequence[ValueType]:
    shape, dtype = ctx.shape(0), ctx.dtype(0)
    axis = normalize_axis(ctx.attr("axis", 0), len(shape))
    parts = split_sizes(ctx, shape[axis])
    return [TensorType(dtype, (*shape[:axis], part, *shape[axis + 1 :])) for part in parts]


def slice_ranges(ctx: NodeContext, shape: Ints) -> dict[int, slice]:
    """A Python slice with in-range bounds for each axis that the Slice names (reversed ranges may end at None)."""
    if ctx.opset < 10:
        starts, ends = tuple(ctx.attr("starts", ())), tuple(ctx.attr("ends", ()))
        axes: Ints | None = ctx.attr("axes")
        steps: Ints = (1,) * len(starts)
    else:
        ctx.require_contents(1, 2, 3, 4)
        starts, ends = ctx.ints(1), ctx.ints(2)
        axes = ctx.ints(3) if ctx.has(3) else None
        steps = ctx.ints(4) if ctx.has(4) else (1,) * len(starts)
    axes = tuple(range(len(starts))) if axes is None else tuple(axes)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise ShapeMismatchError(
            f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes and {len(steps)} steps differ"
        )
    if 0 in steps:
        raise ShapeMismatchError("a step cannot be 0")
    ranges: dict[int, slice] = {}
    for start, end, given, step in zip(starts, ends, axes, steps, strict=True):
        axis = normalize_axis(given, len(shape))
        ranges[axis] = _clamped_slice(start, end, step, shape[axis])
    return ranges


def _clamped_slice(start: int, end: int, step: int, size: int) -> slice:
    """ONNX's bounds: unlike Python's, a start before the first element is moved onto it even when stepping back."""
    if size == 0:
        return slice(0, 0, step)
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    end = min(max(end, -1), size - 1)
    return slice(min(max(start, 0), size - 1), None if end < 0 else end, step)


def _taken_length(taken: slice) -> int:
    """How many indices a slice of `slice_ranges` has."""
    start, stop, step = taken.start, taken.stop, taken.step
    if step < 0:
        start, stop, step = -start, 1 if stop is None else -stop, -step
    return ceiling(stop - start, step) if start < stop else 0


@shape_function("Slice")
def slice_(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    dims = list(shape)
    for axis, taken in slice_ranges(ctx, shape).items():
        dims[axis] = _taken_length(taken)
    return _same_dtype(ctx, tuple(dims))


@shape_function("Expand")
def expand(ctx: NodeContext) -> Sequence[ValueType]:
    target = ctx.ints(1)
    if any(size < 0 for size in target):
        raise ShapeMismatchError(f"the shape {list(target)} has a negative dimension")
    return _same_dtype(ctx, broadcast(ctx.shape(0), target))


@shape_function("Tile")
def tile(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if ctx.opset < 6:
        ctx.require_contents(1, 2)
        axis = normalize_axis(ctx.ints(2)[0], len(shape))
        return _same_dtype(ctx, (*shape[:axis], shape[axis] * ctx.ints(1)[0], *shape[axis + 1 :]))
    repeats = ctx.ints(1)
    if len(repeats) != len(shape):
        raise ShapeMismatchError(f"{len(repeats)} repeats for {len(shape)} axes")
    return _same_dtype(ctx, tuple(size * times for size, times in zip(shape, repeats, strict=True)))


def pad_amounts(ctx: NodeContext, rank: int) -> list[tuple[int, int]]:
    """Elements added before and after each axis (negative ones are cut off)."""
    if ctx.opset >= 11:
        ctx.require_contents(1, 3)
        pads = ctx.ints(1)
        axes = ctx.ints(3) if ctx.has(3) else tuple(range(rank))
    else:
        pads = tuple(ctx.attr("pads") or ctx.attr("paddings") or ())
        axes = tuple(range(rank))
    if len(pads) != 2 * len(axes):
        raise ShapeMismatchError(f"{len(pads)} pads for {len(axes)} axes, twice as many are needed")
    amounts = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        amounts[normalize_axis(axis, rank)] = (pads[i], pads[i + len(axes)])
    return amounts


@shape_function("Pad")
def pad(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    amounts = pad_amounts(ctx, len(shape))
    dims = tuple(size + before + after for size, (before, after) in zip(shape, amounts, strict=True))
    # what is cut on one side is not made up for by what is added on the other
    if any(size + min(before, 0) + min(after, 0) < 0 for size, (before, after) in zip(shape, amounts, strict=True)):
        raise ShapeMismatchError(f"pads {amounts} cut more than {list(shape)} has")
    return _same_dtype(ctx, dims)


@shape_function("DepthToSpace")
def depth_to_space(ctx: NodeContext) -> Sequence[ValueType]:
    batch, channels, height, width = _four(ctx)
    block = ctx.attr("blocksize", 1)
    if block < 1 or channels % (block * block):
        raise ShapeMismatchError(f"{channels} channels do not divide into blocks of {block}x{block}")
    return _same_dtype(ctx, (batch, channels // (block * block), height * block, width * block))


@shape_function("SpaceToDepth")
def space_to_depth(ctx: NodeContext) -> Sequence[ValueType]:
    batch, channels, height, width = _four(ctx)
    block = ctx.attr("blocksize", 1)
    if block < 1 or height % block or width % block:
        raise ShapeMismatchError(f"{height}x{width} does not divide into blocks of {block}x{block}")
    return _same_dtype(ctx, (batch, channels * block * block, height // block, width // block))


def _four(ctx: NodeContext) -> Ints:
    shape = ctx.shape(0)
    if len(shape) != 4:
        raise ShapeMismatchError("the input must be (N, C, H, W)")
    return shape


shapes_from_contents("CenterCropPad", inputs=(1,))


# --- agreement --------------------------------------------------------------------------------------------------------

agreement("Expand", "CenterCropPad", "Tile", "Reshape", "Pad")(lists(1))

agreement("Slice")(lists(1, 2, 3, 4))


@agreement("ReverseSequence")
def check_reverse_sequence(ctx: NodeContext) -> None:
    data = ctx.shape(0)
    require(len(data) >= 2, "the data must have at least 2 axes")
    time, batch = ctx.attr("time_axis", 0), ctx.attr("batch_axis", 1)
    require({time, batch} == {0, 1}, f"time_axis {time} and batch_axis {batch} must be 0 and 1 or 1 and 0")
    expect(ctx, 1, (data[batch],), what="the lengths, one for each sequence,")


@agreement("Trilu")
def check_trilu(ctx: NodeContext) -> None:
    require(len(ctx.shape(0)) >= 2, "the data must have at least 2 axes")
    expect_one(ctx, 1, "the diagonal")


# --- evaluation -------------------------------------------------------------------------------------------------------


@evaluator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def evaluate_reshape(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    wanted = output_shape(ctx)
    return None if wanted is None else [first_content(arrays).reshape(wanted)]


@evaluator("Expand")
def evaluate_expand(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    wanted = output_shape(ctx)
    return None if wanted is None else [np.array(np.broadcast_to(first_content(arrays), wanted))]


@evaluator("Transpose")
def evaluate_transpose(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.transpose(first_content(arrays), ctx.attr("perm"))]


@evaluator("Concat")
def evaluate_concat(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.concatenate([a for a in arrays if a is not None], axis=ctx.attr("axis", 1))]


@evaluator("Slice")
def evaluate_slice(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = first_content(arrays)
    ranges = slice_ranges(ctx, data.shape)
    return [data[tuple(ranges.get(axis, slice(None)) for axis in range(data.ndim))]]


@evaluator("Split")
def evaluate_split(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = first_content(arrays)
    axis = ctx.attr("axis", 0)
    return np.split(data, np.cumsum(split_sizes(ctx, data.shape[axis]))[:-1], axis)


@evaluator("Tile")
def evaluate_tile(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return None if ctx.opset < 6 else [np.tile(first_content(arrays), ctx.ints(1))]


# these move elements, whatever they are
symbolic_evaluator("Reshape", "Flatten", "Squeeze", "Unsqueeze")(evaluate_reshape)
symbolic_evaluator("Expand")(evaluate_expand)
symbolic_evaluator("Transpose")(evaluate_transpose)
symbolic_evaluator("Concat")(evaluate_concat)
symbolic_evaluator("Slice")(evaluate_slice)
symbolic_evaluator("Split")(evaluate_split)
symbolic_evaluator("Tile")(evaluate_tile)


@evaluator("Pad")
def evaluate_pad(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = first_content(arrays)
    amounts = pad_amounts(ctx, data.ndim)
    if ctx.attr("mode", "constant") != "constant" or any(min(pair) < 0 for pair in amounts):
        return None
    fill = arrays[2] if len(arrays) > 2 else None
    value = ctx.attr("value", 0.0) if fill is None else fill.reshape(-1)[0]
    return [np.pad(data, amounts, constant_values=value)]
