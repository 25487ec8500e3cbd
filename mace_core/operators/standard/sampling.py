"""Operators that read pictures between their pixels."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.registry import agreement, shape_function, shapes_from_contents
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("GridSample", rules={"mode": one_of("linear", "nearest", "cubic", "bilinear", "bicubic")})
attribute_rules(
    "RoiAlign",
    rules={
        "mode": one_of("avg", "max"),
        "coordinate_transformation_mode": one_of("half_pixel", "output_half_pixel"),
    },
)


# --- shapes -----------------------------------------------------------------------------------------------------------


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


shapes_from_contents("AffineGrid", inputs=(1,))


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("RoiAlign")
def check_roi_align(ctx: NodeContext) -> None:
    expect_rank(ctx, 0, 4, "the data (N, C, H, W)")
    regions = expect_rank(ctx, 1, 2, "the regions")
    require(regions[1] == 4, f"the regions must be (count, 4), not {list(regions)}")
    expect(ctx, 2, (regions[0],), what="the image of each region")


@agreement("GridSample")
def check_grid_sample(ctx: NodeContext) -> None:
    data, grid = ctx.shape(0), ctx.shape(1)
    require(0 not in data[2:] or 0 in grid[1:-1], f"there is nothing in data {list(data)} to sample from")


@agreement("AffineGrid")
def check_affine_grid(ctx: NodeContext) -> None:
    theta = expect_rank(ctx, 0, 3, "theta")
    size = ctx.content(1)
    if size is not None and size.shape in ((4,), (5,)):
        rank = size.size - 2
        wanted = (int(size[0]), rank, rank + 1)
        require(theta == wanted, f"theta must be {list(wanted)} for a grid of {rank} dimensions, not {list(theta)}")
