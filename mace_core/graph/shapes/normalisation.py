"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError, normalise_axis
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


def _channels(ctx: NodeContext) -> int:
    shape = ctx.shape(0)
    if len(shape) < 2:
        return 1
    return shape[1]


@shape_function("BatchNormalization")
def batch_normalisation(ctx: NodeContext) -> Sequence[ValueType]:
    channels = _channels(ctx)
    for index in range(1, 5):
        if ctx.shape(index) != (channels,) and ctx.attr("spatial", 1):
            raise ShapeMismatchError(f"input {index} must have one element for each of the {channels} channels")
    statistics = [TensorType(ctx.dtype(3), (channels,))] * 4
    return [ctx.type(0), *statistics]


@shape_function("InstanceNormalization", "GroupNormalization")
def instance_normalisation(ctx: NodeContext) -> Sequence[ValueType]:
    channels = _channels(ctx)
    groups = ctx.attr("num_groups", channels)
    for index in (1, 2):
        if ctx.shape(index) not in ((channels,), (groups,)):
            raise ShapeMismatchError(f"input {index} must have one element for each of the {channels} channels")
    return [ctx.type(0)]


@shape_function("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def layer_normalisation(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    axis = normalise_axis(ctx.attr("axis", -1), len(shape))
    reduced = shape[:axis] + (1,) * (len(shape) - axis)
    stash = TensorType(DType(ctx.attr("stash_type", DType.FLOAT32.value)), reduced)
    return [TensorType(ctx.dtype(0), shape), stash, stash]
