"""Agreement of pictures with regions, grids, filters and groups of channels."""

from __future__ import annotations

from mace_core.graph.shapes.agreement import agreement, expect, expect_rank, require
from mace_core.graph.shapes.context import NodeContext


@agreement("RoiAlign")
def roi_align(ctx: NodeContext) -> None:
    expect_rank(ctx, 0, 4, "the data (N, C, H, W)")
    regions = expect_rank(ctx, 1, 2, "the regions")
    require(regions[1] == 4, f"the regions must be (count, 4), not {list(regions)}")
    expect(ctx, 2, (regions[0],), what="the image of each region")


@agreement("GridSample")
def grid_sample(ctx: NodeContext) -> None:
    data, grid = ctx.shape(0), ctx.shape(1)
    require(0 not in data[2:] or 0 in grid[1:-1], f"there is nothing in data {list(data)} to sample from")


@agreement("AffineGrid")
def affine_grid(ctx: NodeContext) -> None:
    theta = expect_rank(ctx, 0, 3, "theta")
    size = ctx.content(1)
    if size is not None and size.shape in ((4,), (5,)):
        rank = size.size - 2
        wanted = (int(size[0]), rank, rank + 1)
        require(theta == wanted, f"theta must be {list(wanted)} for a grid of {rank} dimensions, not {list(theta)}")


@agreement("MaxUnpool")
def max_unpool(ctx: NodeContext) -> None:
    expect(ctx, 1, ctx.shape(0), what="the indices, one for each element,")
    if ctx.has(2):
        expect(ctx, 2, (len(ctx.shape(0)),), what="the output's shape")


@agreement("Col2Im")
def col2im(ctx: NodeContext) -> None:
    data = expect_rank(ctx, 0, 3, "the columns (N, C * block, count)")
    image, block = ctx.content(1), ctx.content(2)
    if image is None or block is None or image.ndim != 1 or image.shape != block.shape:
        return
    rank, blocks, count = image.size, 1, 1
    strides, dilations = ctx.attr("strides") or (1,) * rank, ctx.attr("dilations") or (1,) * rank
    pads = ctx.attr("pads") or (0,) * (2 * rank)
    require(
        (len(strides), len(dilations), len(pads)) == (rank, rank, 2 * rank)
        and min((*strides, *dilations), default=1) > 0,
        f"strides, dilations and pads must be positive and fit {rank} spatial axes",
    )
    for axis, (size, part) in enumerate(zip(image.tolist(), block.tolist(), strict=True)):
        blocks *= part
        room = size + pads[axis] + pads[rank + axis] - dilations[axis] * (part - 1) - 1
        count *= max(room // strides[axis] + 1, 0)
    require(
        blocks > 0 and data[1] % blocks == 0 and data[2] == count,
        f"{count} blocks of {blocks} elements need columns (N, C * {blocks}, {count}), not {list(data)}",
    )


@agreement("DeformConv")
def deform_conv(ctx: NodeContext) -> None:
    data, weights, offset = ctx.shape(0), ctx.shape(1), ctx.shape(2)
    group, shares = ctx.attr("group", 1), ctx.attr("offset_group", 1)
    require(len(data) == len(weights) == len(offset) >= 3, "data, weights and offsets must have one number of axes")
    require(
        group > 0 and data[1] == weights[1] * group and weights[0] % group == 0,
        f"weights {list(weights)} do not fit data {list(data)} in {group} groups",
    )
    require(shares > 0 and data[1] % shares == 0, f"{data[1]} channels do not form {shares} groups of offsets")
    kernel = weights[2:]
    require(
        tuple(ctx.attr("kernel_shape") or kernel) == kernel, f"kernel_shape contradicts the weights {list(weights)}"
    )
    window, rank = 1, len(kernel)
    strides, dilations = ctx.attr("strides") or (1,) * rank, ctx.attr("dilations") or (1,) * rank
    pads = ctx.attr("pads") or (0,) * (2 * rank)
    require(
        (len(strides), len(dilations), len(pads)) == (rank, rank, 2 * rank) and min((*strides, *dilations)) > 0,
        f"strides, dilations and pads must be positive and fit {rank} spatial axes",
    )
    places = []
    for axis, size in enumerate(kernel):
        window *= size
        room = data[2 + axis] + pads[axis] + pads[rank + axis] - dilations[axis] * (size - 1) - 1
        places.append(max(room // strides[axis] + 1, 0))
    expect(ctx, 2, (data[0], shares * window * rank, *places), what="the offsets")
    expect(ctx, 3, (weights[0],), what="the bias")
    expect(ctx, 4, (data[0], shares * window, *places), what="the mask")


@agreement("ConvTranspose")
def conv_transpose(ctx: NodeContext) -> None:
    weights = ctx.shape(1)
    kernel = tuple(ctx.attr("kernel_shape") or weights[2:])
    require(kernel == weights[2:], f"kernel_shape {list(kernel)} contradicts the weights {list(weights)}")
    require(min(kernel, default=1) > 0, f"the kernel {list(kernel)} must be positive")
    group = ctx.attr("group", 1)
    require(group > 0 and weights[0] % group == 0, f"{weights[0]} channels do not form {group} groups")


@agreement("GroupNormalization")
def group_norm(ctx: NodeContext) -> None:
    shape, groups = ctx.shape(0), ctx.attr("num_groups", 0)
    require(len(shape) >= 2, "the data (N, C, …) must have at least 2 axes")
    require(groups > 0 and shape[1] % groups == 0, f"{shape[1]} channels do not form {groups} groups")
    wanted = (shape[1],) if ctx.opset >= 21 else (groups,)
    expect(ctx, 1, wanted, what="the scale")
    expect(ctx, 2, wanted, what="the bias")
