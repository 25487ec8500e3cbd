"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data, check_axes_of_data
from mace_core.operators.attributes.rule import code
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.checks import expect, expect_fit, require
from mace_core.operators.context import NodeContext, ShapeMismatchError, normalize_axis, same_as_first
from mace_core.operators.pieces import cast_like, scaled
from mace_core.operators.registry import agreement, body, rank_check, shape_function
from mace_core.operators.standard.elementwise import along_axis
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("LpNormalization", rules={"p": code(1, 2)})

rank_check("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")(axis_of_data("axis"))
rank_check("LpNormalization")(axis_of_data("axis", least_rank=1))
rank_check("MeanVarianceNormalization")(check_axes_of_data)


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("LRN", "MeanVarianceNormalization")(same_as_first)

shape_function("LpNormalization")(along_axis)


def _channels(ctx: NodeContext) -> int:
    shape = ctx.shape(0)
    if len(shape) < 2:
        return 1
    return shape[1]


@shape_function("BatchNormalization")
def batch_normalization(ctx: NodeContext) -> Sequence[ValueType]:
    channels = _channels(ctx)
    for index in range(1, 5):
        if ctx.shape(index) != (channels,) and ctx.attr("spatial", 1):
            raise ShapeMismatchError(f"input {index} must have one element for each of the {channels} channels")
    statistics = [TensorType(ctx.dtype(3), (channels,))] * 4
    return [ctx.type(0), *statistics]


@shape_function("InstanceNormalization", "GroupNormalization")
def instance_normalization(ctx: NodeContext) -> Sequence[ValueType]:
    channels = _channels(ctx)
    groups = ctx.attr("num_groups", channels)
    for index in (1, 2):
        if ctx.shape(index) not in ((channels,), (groups,)):
            raise ShapeMismatchError(f"input {index} must have one element for each of the {channels} channels")
    return [ctx.type(0)]


@shape_function("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalization(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = normalize_axis(ctx.attr("axis", -1), len(shape))
    reduced = shape[:axis] + (1,) * (len(shape) - axis)
    stash = TensorType(DType(ctx.attr("stash_type", DType.FLOAT32.value)), reduced)
    return [TensorType(ctx.dtype(0), shape), stash, stash]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("GroupNormalization")
def check_group_norm(ctx: NodeContext) -> None:
    shape, groups = ctx.shape(0), ctx.attr("num_groups", 0)
    require(len(shape) >= 2, "the data (N, C, …) must have at least 2 axes")
    require(groups > 0 and shape[1] % groups == 0, f"{shape[1]} channels do not form {groups} groups")
    wanted = (shape[1],) if ctx.opset >= 21 else (groups,)
    expect(ctx, 1, wanted, what="the scale")
    expect(ctx, 2, wanted, what="the bias")


@agreement("LayerNormalization", "RMSNormalization")
def check_normalized_by_place(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    for index, what in ((1, "scale"), (2, "bias")):
        expect_fit(ctx, index, shape, f"the {what}")


# --- bodies -----------------------------------------------------------------------------------------------------------

STATISTICS_ARE_UPDATED_SINCE = 14
"""The opset that gave BatchNormalization its attribute training_mode."""

AXES_ARE_INPUTS_SINCE = 18
"""Of ReduceMean."""


@body("BatchNormalization")
def build_batch_statistics(b: BodyBuilder, node: Node) -> bool:
    """BatchNormalization with the mean and variance of this batch, and the running ones brought up to date."""
    view = b.view
    x, scale, bias, mean, variance = node.inputs
    if not node.attr("training_mode", 0) or view.opset() < STATISTICS_ARE_UPDATED_SINCE:
        return False
    found = None if x is None else view.tensor_type(x)
    if x is None or mean is None or variance is None or found is None or not found.is_concrete:
        return False
    axes = [axis for axis in range(len(view.shape(x))) if axis != 1]
    is_half = found.dtype in (DType.FLOAT16, DType.BFLOAT16)
    wide = b.op("Cast", [x], {"to": DType.FLOAT32.value}) if is_half else x

    def mean_of(value: Value, *, keep: bool) -> Value:
        if view.opset() < AXES_ARE_INPUTS_SINCE:
            return b.op("ReduceMean", [value], {"axes": axes, "keepdims": int(keep)})
        return b.op("ReduceMean", [value, b.constant(axes, "int64")], {"keepdims": int(keep)})

    centered = b.op("Sub", [wide, mean_of(wide, keep=True)])
    batch = (mean_of(wide, keep=False), mean_of(b.op("Mul", [centered, centered]), keep=False))
    own = [cast_like(b, statistic, running) for statistic, running in zip(batch, (mean, variance), strict=True)]
    kept = {"epsilon": float(node.attr("epsilon", 1e-5))}
    b.op("BatchNormalization", [x, scale, bias, *own], kept, into=node.output(0))
    momentum = float(node.attr("momentum", 0.9))
    for index, (running, statistic) in enumerate(zip((mean, variance), own, strict=True), start=1):
        target = node.output(index)
        if target is not None:
            parts = [scaled(b, momentum, running), scaled(b, 1.0 - momentum, statistic)]
            b.op("Add", parts, into=target)
    return True
