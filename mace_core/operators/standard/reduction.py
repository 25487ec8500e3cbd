"""Reductions and running sums along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data, check_axes_of_data
from mace_core.operators.attributes.rule import size
from mace_core.operators.checks import singles
from mace_core.operators.context import Array, Ints, NodeContext, ShapeMismatchError, normalize_axis
from mace_core.operators.evaluation import Contents, given_contents
from mace_core.operators.registry import agreement, evaluator, rank_check, shape_function, symbolic_evaluator
from mace_core.symbolic import maximum, minimum
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

_REDUCING = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)

attribute_rules("TopK", rules={"k": size()})

rank_check(*_REDUCING)(check_axes_of_data)
rank_check("ArgMax", "ArgMin", "TopK")(axis_of_data("axis", least_rank=1))


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("CumProd", "CumSum")
def cumulate(ctx: NodeContext) -> Sequence[ValueType]:
    axis = ctx.content(1)
    if axis is not None and axis.size == 1:
        normalize_axis(int(axis.reshape(-1)[0]), len(ctx.shape(0)))
    return [ctx.type(0)]


def reduction_axes(ctx: NodeContext, rank: int) -> Ints:
    """The axes that are reduced: an attribute or (later opsets) input 1; none given means all, or none at all."""
    given: Ints | None = ctx.ints(1) if ctx.has(1) else ctx.attr("axes")
    if not given:
        return () if ctx.attr("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(normalize_axis(axis, rank) for axis in given)


@shape_function(*_REDUCING)
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
    axis = normalize_axis(ctx.attr("axis", 0), len(shape))
    kept = (1,) if ctx.attr("keepdims", 1) else ()
    return [TensorType(DType.INT64, shape[:axis] + kept + shape[axis + 1 :])]


@shape_function("TopK", dtypes=lambda ctx: [ctx.dtype(0), DType.INT64])
def top_k(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = normalize_axis(ctx.attr("axis", -1), len(shape))
    count = ctx.attr("k") if ctx.opset < 10 else ctx.ints(1)[0]
    if count is None or not 0 <= count <= shape[axis]:
        raise ShapeMismatchError(f"k = {count} elements cannot be taken of the {shape[axis]} along axis {axis}")
    chosen = (*shape[:axis], count, *shape[axis + 1 :])
    return [TensorType(ctx.dtype(0), chosen), TensorType(DType.INT64, chosen)]


# --- agreement --------------------------------------------------------------------------------------------------------

agreement("CumSum", "CumProd")(singles(axis=1))


# --- evaluation -------------------------------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceMin": np.min,
    "ReduceMax": np.max,
}


@evaluator(*_REDUCTIONS)
def evaluate_reduce(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = given_contents(arrays)[0]
    axes = reduction_axes(ctx, data.ndim)
    if data.size == 0 and ctx.node.op_type in ("ReduceMin", "ReduceMax"):
        return None
    if not axes:
        return [data]
    if ctx.node.op_type in ("ReduceSum", "ReduceProd") and not _is_exact_in_any_order(data, ctx.node.op_type):
        return None
    reduced = _REDUCTIONS[ctx.node.op_type](data, axis=axes, keepdims=bool(ctx.attr("keepdims", 1)))
    return [np.asarray(reduced).astype(data.dtype, copy=False)]


_SYMBOLIC_REDUCTIONS: dict[str, np.ufunc] = {
    "ReduceProd": np.multiply,
    "ReduceSum": np.add,
    "ReduceMin": np.frompyfunc(minimum, 2, 1),
    "ReduceMax": np.frompyfunc(maximum, 2, 1),
}


@symbolic_evaluator(*_SYMBOLIC_REDUCTIONS)
def evaluate_symbolic_reduce(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data = given_contents(arrays)[0].astype(object)
    axes = reduction_axes(ctx, data.ndim)
    if data.size == 0 or not axes:
        return None if data.size == 0 else [data]
    reduce = _SYMBOLIC_REDUCTIONS[ctx.node.op_type].reduce
    for axis in sorted((axis % data.ndim for axis in axes), reverse=True):
        data = reduce(data, axis=axis, keepdims=bool(ctx.attr("keepdims", 1)))
        data = np.asarray(data, object)
    return [data]


def _is_exact_in_any_order(data: Array, op_type: str) -> bool:
    """Whether a sum or product of any of these numbers is exact: whole numbers, the largest result of which is so too.

    Floats are added in an order, and in a precision, that is the provider's own.
    """
    if data.dtype.kind != "f":
        return True
    largest = np.abs(data.astype(np.float64))
    total = np.sum(largest) if op_type == "ReduceSum" else np.prod(np.maximum(largest, 1))
    return bool((data == np.trunc(data)).all() and total < 2 ** (np.finfo(data.dtype).nmant + 1))


@evaluator("CumSum")
def evaluate_cumulative_sum(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, axis = given_contents(arrays)
    if ctx.attr("exclusive", 0) or ctx.attr("reverse", 0) or not _is_exact_in_any_order(data, "ReduceSum"):
        return None
    return [np.cumsum(data, axis=int(axis.reshape(-1)[0]), dtype=data.dtype)]


@symbolic_evaluator("CumSum")
def evaluate_symbolic_cumulative_sum(ctx: NodeContext, arrays: Contents) -> Sequence[Array] | None:
    data, axis = given_contents(arrays)
    if ctx.attr("exclusive", 0) or ctx.attr("reverse", 0):
        return None
    return [np.cumsum(data.astype(object), axis=int(axis.reshape(-1)[0]))]
