"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError, normalise_axis
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


def reduction_axes(ctx: NodeContext, rank: int) -> Ints:
    """The axes that are reduced: an attribute or (later opsets) input 1; none given means all, or none at all."""
    given: Ints | None = ctx.ints(1) if ctx.has(1) else ctx.attr("axes")
    if not given:
        return () if ctx.attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(normalise_axis(axis, rank) for axis in given)


@shape_function(
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def reduce(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axes = set(reduction_axes(ctx, len(shape)))
    if ctx.attr("keepdims", 1):
        reduced = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    else:
        reduced = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    return [TensorType(ctx.dtype(0), reduced)]


@shape_function("ArgMax", "ArgMin", dtypes=lambda ctx: [DType.INT64])
def arg_reduce(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = normalise_axis(ctx.attr("axis", 0), len(shape))
    kept = (1,) if ctx.attr("keepdims", 1) else ()
    return [TensorType(DType.INT64, shape[:axis] + kept + shape[axis + 1 :])]


@shape_function("TopK", dtypes=lambda ctx: [ctx.dtype(0), DType.INT64])
def top_k(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = normalise_axis(ctx.attr("axis", -1), len(shape))
    count = ctx.attr("k") if ctx.opset < 10 else ctx.ints(1)[0]
    if count is None or not 0 <= count <= shape[axis]:
        raise ShapeMismatchError(f"k = {count} elements cannot be taken of the {shape[axis]} along axis {axis}")
    chosen = (*shape[:axis], count, *shape[axis + 1 :])
    return [TensorType(ctx.dtype(0), chosen), TensorType(DType.INT64, chosen)]
