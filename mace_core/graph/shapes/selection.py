"""Operators that pick elements: by index, by condition, by grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError, UnresolvedShapeError, normalise_axis
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


@shape_function("Gather")
def gather(ctx: NodeContext) -> Sequence[ValueType]:
    shape, indices = ctx.shape(0), ctx.shape(1)
    axis = normalise_axis(ctx.attr("axis", 0), len(shape))
    return [TensorType(ctx.dtype(0), shape[:axis] + indices + shape[axis + 1 :])]


@shape_function("GatherElements")
def gather_elements(ctx: NodeContext) -> Sequence[ValueType]:
    shape, indices = ctx.shape(0), ctx.shape(1)
    normalise_axis(ctx.attr("axis", 0), len(shape))
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
    axis = normalise_axis(ctx.attr("axis", -1), len(indices) + 1)
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


@shape_function("Compress")
def compress(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    count = int(np.count_nonzero(ctx.array(1)))
    axis = ctx.attr("axis")
    if axis is None:
        return [TensorType(ctx.dtype(0), (count,))]
    axis = normalise_axis(axis, len(shape))
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 :]))]


def _unique_dtypes(ctx: NodeContext) -> Sequence[DType]:
    return [ctx.dtype(0), DType.INT64, DType.INT64, DType.INT64]


@shape_function("Unique", dtypes=_unique_dtypes)
def unique(ctx: NodeContext) -> Sequence[ValueType]:
    raise UnresolvedShapeError


@shape_function("NonMaxSuppression", dtypes=lambda ctx: [DType.INT64])
def non_max_suppression(ctx: NodeContext) -> Sequence[ValueType]:
    raise UnresolvedShapeError


@shape_function("GridSample")
def grid_sample(ctx: NodeContext) -> Sequence[ValueType]:
    shape, grid = ctx.shape(0), ctx.shape(1)
    if len(grid) != len(shape) or len(shape) < 3 or grid[-1] != len(shape) - 2 or grid[0] != shape[0]:
        raise ShapeMismatchError("data (N, C, D1, …, Dr) needs a grid (N, D1_out, …, Dr_out, r)")
    return [TensorType(ctx.dtype(0), shape[:2] + grid[1:-1])]


@shape_function("RoiAlign")
def roi_align(ctx: NodeContext) -> Sequence[ValueType]:
    size = (ctx.attr("output_height", 1), ctx.attr("output_width", 1))
    return [TensorType(ctx.dtype(0), (ctx.shape(1)[0], ctx.shape(0)[1], *size))]


@shape_function("Det")
def determinant(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeMismatchError("the last two axes must form square matrices")
    return [TensorType(ctx.dtype(0), shape[:-2])]
