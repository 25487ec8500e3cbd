"""Pools, their inverse, and pools over everything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import AttributeKind as K
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import check_length, check_window
from mace_core.operators.attributes.rule import of_kind
from mace_core.operators.checks import expect
from mace_core.operators.context import NodeContext, NodeShapes, ShapeMismatchError
from mace_core.operators.registry import agreement, rank_check, shape_function, work_estimate
from mace_core.operators.standard.windows import window_attributes, window_outputs
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("GlobalLpPool", "LpPool", rules={"p": of_kind(K.INT, K.FLOAT)})

rank_check("AveragePool", "LpPool", "MaxPool", "MaxUnpool")(check_window)


@rank_check("MaxRoiPool")
def check_roi_pool_lengths(ctx: NodeContext) -> None:
    check_length(ctx, "pooled_shape", 2)


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("MaxPool", "AveragePool", "LpPool")
def pool(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) < 3:
        raise ShapeMismatchError("data (N, C, …) must have at least 3 axes")
    kernel = ctx.attr("kernel_shape")
    if kernel is None:
        raise ShapeMismatchError("the attribute 'kernel_shape' is required")
    spatial = window_outputs(ctx, shape[2:], tuple(kernel), ceil_mode=bool(ctx.attr("ceil_mode", 0)))
    pooled = (*shape[:2], *spatial)
    return [TensorType(ctx.dtype(0), pooled), TensorType(DType.INT64, pooled)]


@shape_function("MaxUnpool")
def max_unpool(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if ctx.has(2):
        return [TensorType(ctx.dtype(0), ctx.ints(2))]
    spatial = shape[2:]
    rank = len(spatial)
    kernel = ctx.attr("kernel_shape")
    if kernel is None or len(kernel) != rank:
        raise ShapeMismatchError(f"the attribute 'kernel_shape' must name {rank} spatial axes")
    strides, _, pads = window_attributes(ctx, rank)
    sizes = ((spatial[i] - 1) * strides[i] + kernel[i] - pads[i] - pads[rank + i] for i in range(rank))
    return [TensorType(ctx.dtype(0), (*shape[:2], *sizes))]


@shape_function("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if len(shape) < 2:
        raise ShapeMismatchError("data (N, C, …) must have at least 2 axes")
    return [TensorType(ctx.dtype(0), shape[:2] + (1,) * (len(shape) - 2))]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("MaxUnpool")
def check_max_unpool(ctx: NodeContext) -> None:
    expect(ctx, 1, ctx.shape(0), what="the indices, one for each element,")
    if ctx.has(2):
        expect(ctx, 2, (len(ctx.shape(0)),), what="the output's shape")


# --- work -------------------------------------------------------------------------------------------------------------


@work_estimate("AveragePool", "LpPool", "MaxPool")
def pool_work(shapes: NodeShapes) -> int | None:
    """Each output element looks at the taps of a window, at most as many as the data has."""
    out, data = shapes.output(), shapes.input(0)
    if out is None or data is None:
        return None
    kernel = shapes.node.attr("kernel_shape", ())
    return math.prod(out) * math.prod(min(taps, size) for taps, size in zip(kernel, data[2:], strict=False))
