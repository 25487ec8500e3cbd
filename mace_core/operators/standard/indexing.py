"""Operators that pick and place elements: by index, by condition, by overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.checks import expect, expect_one, expect_rank, require
from mace_core.operators.context import (
    Array,
    Ints,
    NodeContext,
    ShapeMismatchError,
    UnresolvedShapeError,
    normalize_axis,
    same_as_first,
)
from mace_core.operators.evaluation import Contents, first_content, second_content
from mace_core.operators.registry import agreement, evaluator, rank_check, shape_function, symbolic_evaluator
from mace_core.tensor import DType, TensorType, ValueType
from mace_core.tensor.symbolic import concrete

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("ScatterElements", "ScatterND", rules={"reduction": one_of("none", "add", "mul", "max", "min")})
attribute_rules("TensorScatter", rules={"mode": one_of("linear", "circular")})

rank_check("Compress", "Gather", "GatherElements", "Scatter", "ScatterElements", "TensorScatter", "Unique")(
    axis_of_data("axis")
)


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("Scatter", "ScatterElements", "ScatterND", "TensorScatter")(same_as_first)


@shape_function("Gather")
def gather(ctx: NodeContext) -> Sequence[ValueType]:
    shape, indices = ctx.shape(0), ctx.shape(1)
    axis = normalize_axis(ctx.attr("axis", 0), len(shape))
    return [TensorType(ctx.dtype(0), shape[:axis] + indices + shape[axis + 1 :])]


@shape_function("GatherElements")
def gather_elements(ctx: NodeContext) -> Sequence[ValueType]:
    shape, indices = ctx.shape(0), ctx.shape(1)
    normalize_axis(ctx.attr("axis", 0), len(shape))
    if len(shape) != len(indices):
        raise ShapeMismatchError("data and indices must have the same number of axes")
    return [TensorType(ctx.dtype(0), indices)]


@shape_function("GatherND")
def gather_nd(ctx: NodeContext) -> Sequence[ValueType]:
    shape, indices = ctx.shape(0), ctx.shape(1)
    leading = ctx.attr("batch_dims", 0)
    if not indices or leading + indices[-1] > len(shape):
        raise ShapeMismatchError(f"indices {list(indices)} name more axes than {list(shape)} has")
    return [TensorType(ctx.dtype(0), indices[:-1] + shape[leading + indices[-1] :])]


@shape_function("OneHot", dtypes=lambda ctx: [ctx.dtype(2)])
def one_hot(ctx: NodeContext) -> Sequence[ValueType]:
    indices = ctx.shape(0)
    axis = normalize_axis(ctx.attr("axis", -1), len(indices) + 1)
    depth = ctx.ints(1)[0]
    if depth < 0:
        raise ShapeMismatchError(f"the depth {depth} is negative")
    return [TensorType(ctx.dtype(2), (*indices[:axis], int(depth), *indices[axis:]))]


@shape_function("NonZero", dtypes=lambda ctx: [DType.INT64])
def non_zero(ctx: NodeContext) -> Sequence[ValueType]:
    content = ctx.content(0)
    if content is None:
        raise UnresolvedShapeError
    return [TensorType(DType.INT64, (max(content.ndim, 1), int(np.count_nonzero(content))))]


@shape_function("Compress", dtypes=lambda ctx: [ctx.dtype(0)])
def compress(ctx: NodeContext) -> Sequence[ValueType]:
    shape, condition = ctx.shape(0), ctx.content(1)
    if condition is None:
        raise UnresolvedShapeError
    count = int(np.count_nonzero(condition))
    axis = ctx.attr("axis")
    if axis is None:
        return [TensorType(ctx.dtype(0), (count,))]
    axis = normalize_axis(axis, len(shape))
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 :]))]


def _unique_dtypes(ctx: NodeContext) -> Sequence[DType]:
    return [ctx.dtype(0), DType.INT64, DType.INT64, DType.INT64]


@shape_function("Unique", dtypes=_unique_dtypes)
def unique(ctx: NodeContext) -> Sequence[ValueType]:
    raise UnresolvedShapeError


@shape_function("NonMaxSuppression", dtypes=lambda ctx: [DType.INT64])
def non_max_suppression(ctx: NodeContext) -> Sequence[ValueType]:
    raise UnresolvedShapeError


# --- agreement --------------------------------------------------------------------------------------------------------


def _within(inner: Ints, outer: Ints, axis: int) -> bool:
    """Whether ``inner`` lies in ``outer`` on every axis but ``axis``."""
    axis %= max(len(outer), 1)
    return all(i == axis or a <= b for i, (a, b) in enumerate(zip(inner, outer, strict=True)))


@agreement("GatherElements")
def check_gather_elements(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", 0)
    require(
        len(data) != len(indices) or _within(indices, data, axis),
        f"indices {list(indices)} reach beyond data {list(data)} on an axis other than {axis}",
    )


@agreement("ScatterElements", "Scatter")
def check_scatter_elements(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", 0)
    expect(ctx, 2, indices, what="the updates, one for each index,")
    require(
        len(data) == len(indices) and _within(indices, data, axis),
        f"indices {list(indices)} must have the axes of data {list(data)} and lie in it on all but axis {axis}",
    )


@agreement("ScatterND")
def check_scatter_nd(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    require(
        len(indices) > 0 and indices[-1] <= len(data),
        f"indices {list(indices)} name more axes than the data {list(data)} has",
    )
    expect(ctx, 2, indices[:-1] + data[indices[-1] :], what="the updates")


@agreement("GatherND")
def check_gather_nd(ctx: NodeContext) -> None:
    data, indices = ctx.shape(0), ctx.shape(1)
    leading = ctx.attr("batch_dims", 0)
    require(
        0 <= leading < max(len(data), 1) and leading < max(len(indices), 1) and data[:leading] == indices[:leading],
        f"data {list(data)} and indices {list(indices)} must begin with the same {leading} batch dimensions",
    )


@agreement("TensorScatter")
def check_tensor_scatter(ctx: NodeContext) -> None:
    cache, update = ctx.shape(0), ctx.shape(1)
    axis = ctx.attr("axis", -2)
    require(
        len(cache) > 1 and -len(cache) <= axis < len(cache) and axis % len(cache) != 0,
        f"axis {axis} must be an axis of the cache {list(cache)} after the first",
    )
    axis %= len(cache)
    require(
        len(update) == len(cache)
        and all(a == b if i != axis else a <= b for i, (a, b) in enumerate(zip(update, cache, strict=True))),
        f"the update {list(update)} must be as the cache {list(cache)} is, on axis {axis} not longer",
    )
    expect(ctx, 2, (cache[0],), what="the write indices, one for each batch,")


@agreement("OneHot")
def check_one_hot(ctx: NodeContext) -> None:
    expect_one(ctx, 1, "the depth")
    expect(ctx, 2, (2,), what="the pair of off and on values")


@agreement("Compress")
def check_compress(ctx: NodeContext) -> None:
    expect_rank(ctx, 1, 1, "the condition")


@agreement("NonMaxSuppression")
def check_non_max_suppression(ctx: NodeContext) -> None:
    boxes, scores = expect_rank(ctx, 0, 3, "the boxes"), expect_rank(ctx, 1, 3, "the scores")
    require(
        boxes[2] == 4 and scores[0] == boxes[0] and scores[2] == boxes[1],
        f"boxes {list(boxes)} must be (batches, boxes, 4) and scores {list(scores)} (batches, classes, boxes)",
    )
    for index, what in ((2, "the largest number of boxes"), (3, "the overlap"), (4, "the score")):
        expect_one(ctx, index, what)


# --- evaluation -------------------------------------------------------------------------------------------------------


@evaluator("Gather")
def evaluate_gather(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices = first_content(arrays), second_content(arrays)
    axis = ctx.attr("axis", 0)
    if indices.size and not -data.shape[axis] <= indices.min() <= indices.max() < data.shape[axis]:
        return None
    return [np.take(data, indices, axis)]


@symbolic_evaluator("Gather")
def evaluate_symbolic_gather(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return evaluate_gather(ctx, [first_content(arrays), concrete(second_content(arrays))])


@evaluator("GatherElements")
def evaluate_gather_elements(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices = first_content(arrays), second_content(arrays)
    axis = ctx.attr("axis", 0)
    if indices.size and not -data.shape[axis] <= indices.min() <= indices.max() < data.shape[axis]:
        return None
    return [np.take_along_axis(data, indices, axis)] if data.shape == indices.shape else None


@symbolic_evaluator("GatherElements")
def evaluate_symbolic_gather_elements(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return evaluate_gather_elements(ctx, [first_content(arrays), concrete(second_content(arrays))])


@evaluator("NonZero")
def evaluate_non_zero(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    return [np.array(np.nonzero(np.atleast_1d(first_content(arrays))), np.int64)]


@evaluator("ScatterND")
def evaluate_scatter(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices, updates = np.array(first_content(arrays)), second_content(arrays), arrays[2]
    if updates is None or ctx.attr("reduction", "none") != "none":
        return None
    positions = np.moveaxis(indices, -1, 0)
    limits = np.array(data.shape[: positions.shape[0]]).reshape((-1,) + (1,) * (positions.ndim - 1))
    if ((positions < -limits) | (positions >= limits)).any():
        return None
    data[tuple(positions)] = updates
    return [data]


@symbolic_evaluator("ScatterND")
def evaluate_symbolic_scatter(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, indices, updates = first_content(arrays), concrete(second_content(arrays)), arrays[2]
    return evaluate_scatter(ctx, [data.astype(object), indices, updates])
