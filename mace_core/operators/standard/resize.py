"""Resize and Upsample."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import check_axes_of_data, check_length
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.checks import require
from mace_core.operators.context import Ints, NodeContext, ShapeMismatchError, normalize_axis
from mace_core.operators.registry import agreement, rank_check, shape_function
from mace_core.symbolic import is_symbolic
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("Resize", rules={"mode": one_of("nearest", "linear", "cubic")})
attribute_rules("Upsample", rules={"mode": one_of("nearest", "linear", "bilinear")})

rank_check("Resize")(check_axes_of_data)


@rank_check("Upsample")
def check_upsample_lengths(ctx: NodeContext) -> None:
    check_length(ctx, "scales", len(ctx.shape(0)))


# --- shapes -----------------------------------------------------------------------------------------------------------


LARGEST_EXACT_FLOAT32 = 1 << 24
"""Integers up to here, and their quotients by powers of two, are float32 numbers."""


def scaled_size(size: int, scale: float) -> int:
    """``floor(size * scale)`` in float32, as the operator defines it."""
    if is_symbolic(size):
        numerator, denominator = scale.as_integer_ratio()
        if size * numerator <= LARGEST_EXACT_FLOAT32:
            return size * numerator // denominator
    return math.floor(np.float32(size * scale))


def _scaled(shape: Ints, scales: Sequence[float], axes: Ints) -> Ints:
    if len(scales) != len(axes):
        raise ShapeMismatchError(f"{len(scales)} scales for {len(axes)} axes")
    dims = list(shape)
    for axis, scale in zip(axes, scales, strict=True):
        if not 0 < scale < math.inf:
            raise ShapeMismatchError(f"the scale {scale} of axis {axis} must be a positive number")
        dims[axis] = scaled_size(shape[axis], scale)
    return tuple(dims)


@shape_function("Upsample")
def upsample(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    if ctx.opset >= 9:
        scales: Sequence[float] = ctx.array(1).reshape(-1).tolist()
    elif ctx.opset >= 7:
        scales = ctx.attr("scales", ())
    else:
        scales = (1.0,) * (len(shape) - 2) + (ctx.attr("height_scale", 1.0), ctx.attr("width_scale", 1.0))
    return [TensorType(ctx.dtype(0), _scaled(shape, scales, tuple(range(len(shape)))))]


@shape_function("Resize")
def resize(ctx: NodeContext) -> Sequence[ValueType]:
    shape = ctx.shape(0)
    given: Ints | None = ctx.attr("axes")
    axes = tuple(normalize_axis(a, len(shape)) for a in given) if given else tuple(range(len(shape)))
    scales_at = 1 if ctx.opset < 11 else 2
    if ctx.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize" and _is_given(ctx, 1):
        ctx.array(1)  # the region decides which elements are read: it is settled before planning, as shapes are
    if _is_given(ctx, 3):
        return [TensorType(ctx.dtype(0), _to_sizes(ctx, shape, axes))]
    if not _is_given(ctx, scales_at):
        raise ShapeMismatchError("either scales or sizes must be given")
    scales = ctx.array(scales_at).reshape(-1).tolist()
    return [TensorType(ctx.dtype(0), _scaled(shape, scales, axes))]


def _is_given(ctx: NodeContext, index: int) -> bool:
    """Whether an input is there and not the empty tensor that stands for a missing one."""
    return ctx.has(index) and ctx.shape(index) != (0,)


def _to_sizes(ctx: NodeContext, shape: Ints, axes: Ints) -> Ints:
    sizes = ctx.ints(3)
    if len(sizes) != len(axes):
        raise ShapeMismatchError(f"{len(sizes)} sizes for {len(axes)} axes")
    if any(size < 0 for size in sizes):
        raise ShapeMismatchError(f"the sizes {list(sizes)} have a negative one")
    dims = list(shape)
    policy = ctx.attr("keep_aspect_ratio_policy", "stretch")
    if any(shape[axis] == 0 for axis in axes) and policy != "stretch":
        raise ShapeMismatchError(f"the input {list(shape)} is empty, so it has no aspect ratio to keep")
    if policy == "stretch":
        for axis, size in zip(axes, sizes, strict=True):
            dims[axis] = size
        return tuple(dims)
    ratios = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    for axis in axes:
        dims[axis] = math.floor(scale * shape[axis] + 0.5)
    return tuple(dims)


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("Resize")
def check_resize(ctx: NodeContext) -> None:
    rank, axes = len(ctx.shape(0)), ctx.attr("axes") or ()
    require(len({axis % max(rank, 1) for axis in axes}) == len(axes), f"axes {list(axes)} name one axis twice")
    policy = ctx.attr("keep_aspect_ratio_policy", "stretch")
    require(policy in ("stretch", "not_larger", "not_smaller"), f"there is no keep_aspect_ratio_policy '{policy}'")
