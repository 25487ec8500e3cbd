"""Convolutions, plain, transposed, deformable and of integers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import stated_pads
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import check_length, check_window
from mace_core.operators.attributes.rule import one_of
from mace_core.operators.checks import expect, expect_one, expect_rank, require
from mace_core.operators.context import Ints, NodeContext, NodeShapes, ShapeMismatchError
from mace_core.operators.quantized_operands import expect_operand, expect_zero_point
from mace_core.operators.registry import (
    OperationCount,
    agreement,
    rank_check,
    shape_function,
    shapes_from_contents,
    work_estimate,
)
from mace_core.operators.standard.windows import window_attributes, window_outputs
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("CausalConvWithState", rules={"activation": one_of("none", "silu", "swish")})

rank_check("Conv", "ConvInteger", "ConvTranspose", "DeformConv", "QLinearConv")(check_window)


@rank_check("Col2Im")
def check_col2im_lengths(ctx: NodeContext) -> None:
    blocks = ctx.shape(2)
    if len(blocks) == 1:
        for name in ("strides", "dilations"):
            check_length(ctx, name, blocks[0])
        check_length(ctx, "pads", 2 * blocks[0])


# --- shapes -----------------------------------------------------------------------------------------------------------


def conv_shape(ctx: NodeContext, data: int, weight: int) -> Ints:
    """Output shape (N, M, …) of a convolution of input ``data`` (N, C, …) with input ``weight`` (M, C/group, …)."""
    shape, filters = ctx.shape(data), ctx.shape(weight)
    if len(shape) < 3 or len(filters) != len(shape):
        raise ShapeMismatchError(
            "data (N, C, …) and weights (M, C/group, …) must have the same number of axes, at least 3"
        )
    group = ctx.attr("group", 1)
    if shape[1] != filters[1] * group or filters[0] % group:
        raise ShapeMismatchError(
            f"data of {shape[1]} channels needs weights of {shape[1]}/{group} channels and a multiple of {group} "
            f"filters, not {filters[1]} channels and {filters[0]} filters"
        )
    kernel = tuple(ctx.attr("kernel_shape") or filters[2:])
    if kernel != filters[2:]:
        raise ShapeMismatchError(f"kernel_shape {list(kernel)} contradicts the weights {list(filters)}")
    return (shape[0], filters[0], *window_outputs(ctx, shape[2:], kernel))


@shape_function("Conv")
def conv(ctx: NodeContext) -> Sequence[ValueType]:
    shape = conv_shape(ctx, 0, 1)
    if ctx.has(2) and ctx.shape(2) != (shape[1],):
        raise ShapeMismatchError(f"the bias must have one element for each of the {shape[1]} filters")
    return [TensorType(ctx.dtype(0), shape)]


@shape_function("ConvInteger", dtypes=lambda ctx: [DType.INT32])
def conv_integer(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(DType.INT32, conv_shape(ctx, 0, 1))]


@shape_function("QLinearConv", dtypes=lambda ctx: [ctx.dtype(7)])
def qlinear_conv(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(ctx.dtype(7), conv_shape(ctx, 0, 3))]


@shape_function("ConvTranspose")
def conv_transpose(ctx: NodeContext) -> Sequence[ValueType]:
    shape, filters = ctx.shape(0), ctx.shape(1)
    if len(shape) < 3 or len(filters) != len(shape):
        raise ShapeMismatchError(
            "data (N, C, …) and weights (C, M/group, …) must have the same number of axes, at least 3"
        )
    if shape[1] != filters[0]:
        raise ShapeMismatchError(f"data of {shape[1]} channels needs weights of {shape[1]} channels, not {filters[0]}")
    channels = filters[1] * ctx.attr("group", 1)
    if ctx.has(2) and ctx.shape(2) != (channels,):
        raise ShapeMismatchError(f"the bias must have one element for each of the {channels} filters")
    spatial = _transposed_sizes(ctx, shape[2:], tuple(ctx.attr("kernel_shape") or filters[2:]))
    return [TensorType(ctx.dtype(0), (shape[0], channels, *spatial))]


def _transposed_sizes(ctx: NodeContext, spatial: Ints, kernel: Ints) -> Ints:
    rank = len(spatial)
    explicit = ctx.attr("output_shape")
    if explicit:
        return tuple(explicit)[-rank:]
    strides, dilations, _ = window_attributes(ctx, rank)
    stated = stated_pads(ctx.node, rank)
    if stated is None:
        return tuple(size * stride for size, stride in zip(spatial, strides, strict=True))
    extra = tuple(ctx.attr("output_padding") or (0,) * rank)
    result: list[int] = []
    for axis in range(rank):
        removed = stated[0][axis] + stated[1][axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        size = strides[axis] * (spatial[axis] - 1) + extra[axis] + extent - removed
        if size < 0:
            raise ShapeMismatchError(f"pads of {removed} leave nothing of spatial axis {axis}")
        result.append(size)
    return tuple(result)


shapes_from_contents("Col2Im", inputs=(1, 2))


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("Col2Im")
def check_col2im(ctx: NodeContext) -> None:
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
def check_deform_conv(ctx: NodeContext) -> None:
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
def check_conv_transpose(ctx: NodeContext) -> None:
    weights = ctx.shape(1)
    kernel = tuple(ctx.attr("kernel_shape") or weights[2:])
    require(kernel == weights[2:], f"kernel_shape {list(kernel)} contradicts the weights {list(weights)}")
    require(min(kernel, default=1) > 0, f"the kernel {list(kernel)} must be positive")
    group = ctx.attr("group", 1)
    require(group > 0 and weights[0] % group == 0, f"{weights[0]} channels do not form {group} groups")


@agreement("ConvInteger")
def check_conv_integer(ctx: NodeContext) -> None:
    expect_one(ctx, 2, "the zero point of the data")
    expect(ctx, 3, (), (1,), ctx.shape(1)[:1], what="the zero point of the weights")
    expect_zero_point(ctx, 2, "the zero point of the data", data=0)
    expect_zero_point(ctx, 3, "the zero point of the weights", data=1)


@agreement("QLinearConv")
def check_qlinear_conv(ctx: NodeContext) -> None:
    filters = ctx.shape(3)[:1]
    for index, what in (
        (1, "the scale of the data"),
        (2, "the zero point of the data"),
        (6, "the scale of the result"),
        (7, "the zero point of the result"),
    ):
        expect_one(ctx, index, what)
    expect(ctx, 4, (), (1,), filters, what="the scale of the weights")
    expect(ctx, 5, (), (1,), filters, what="the zero point of the weights")
    expect(ctx, 8, filters, what="the bias")
    expect_operand(ctx, "the data", data=0, scale=1, zero=2)
    expect_operand(ctx, "the weights", data=3, scale=4, zero=5)
    expect_operand(ctx, "the result", data=None, scale=6, zero=7)


# --- work -------------------------------------------------------------------------------------------------------------


def macs_of_filters(weight: int) -> OperationCount:
    """Each output element takes one weight filter, (C/group, *kernel); ``weight`` is the input that holds them."""

    def count(shapes: NodeShapes) -> int | None:
        out, filters = shapes.output(), shapes.input(weight)
        return None if out is None or filters is None else math.prod(out) * math.prod(filters[1:])

    return count


work_estimate("Conv", "ConvInteger", are_macs=True)(macs_of_filters(1))
work_estimate("QLinearConv", are_macs=True)(macs_of_filters(3))


@work_estimate("ConvTranspose", are_macs=True)
def transposed_macs(shapes: NodeShapes) -> int | None:
    """Each input element is spread over one weight filter, (M/group, *kernel)."""
    data, filters = shapes.input(0), shapes.input(1)
    return None if data is None or filters is None else math.prod(data) * math.prod(filters[1:])
