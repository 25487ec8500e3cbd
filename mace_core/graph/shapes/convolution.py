"""Convolutions and pools, with every padding and rounding rule they allow."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


def window_attributes(ctx: NodeContext, rank: int) -> tuple[Ints, Ints, Ints]:
    """Strides, dilations and pads (begins, then ends) of a sliding window over ``rank`` axes, defaults filled in."""
    strides = tuple(ctx.attr("strides") or (1,) * rank)
    dilations = tuple(ctx.attr("dilations") or (1,) * rank)
    pads = tuple(ctx.attr("pads") or (0,) * (2 * rank))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise ShapeMismatchError(f"strides, dilations and pads must fit {rank} spatial axes")
    if any(stride < 1 for stride in strides) or any(dilation < 1 for dilation in dilations):
        raise ShapeMismatchError(f"strides {list(strides)} and dilations {list(dilations)} must be positive")
    return strides, dilations, pads


def window_outputs(ctx: NodeContext, spatial: Ints, kernel: Ints, *, ceil_mode: bool = False) -> Ints:
    """Output size of a sliding window along each spatial axis."""
    rank = len(spatial)
    if any(size < 1 for size in kernel):
        raise ShapeMismatchError(f"the kernel {list(kernel)} must be positive")
    if len(kernel) != rank:
        raise ShapeMismatchError(f"a kernel of {len(kernel)} axes does not fit {rank} spatial axes")
    strides, dilations, pads = window_attributes(ctx, rank)
    auto_pad = ctx.attr("auto_pad", "NOTSET")
    result: list[int] = []
    for axis in range(rank):
        stride = strides[axis]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-spatial[axis] // stride))
            continue
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        before, after = (0, 0) if auto_pad == "VALID" else (pads[axis], pads[rank + axis])
        steps = spatial[axis] + before + after - extent
        if spatial[axis] == 0 and steps // stride == -1:
            result.append(0)  # a window of one element finds no place in nothing
            continue
        if steps < 0 and not (ceil_mode and steps > -stride):  # ceil_mode lets one window hang over the end
            raise ShapeMismatchError(
                f"the window of {extent} does not fit spatial axis {axis} of {spatial[axis]} padded by {before}+{after}"
            )
        size = (-(-steps // stride) if ceil_mode else steps // stride) + 1
        if ceil_mode and (size - 1) * stride >= spatial[axis] + before:
            size -= 1  # a last window that starts in the padding behind the data does not count
        result.append(size)
    return tuple(result)


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
    strides, dilations, pads = window_attributes(ctx, rank)
    extra = tuple(ctx.attr("output_padding") or (0,) * rank)
    auto_pad = ctx.attr("auto_pad", "NOTSET")
    result: list[int] = []
    for axis in range(rank):
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            result.append(spatial[axis] * strides[axis])
            continue
        removed = 0 if auto_pad == "VALID" else pads[axis] + pads[rank + axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        size = strides[axis] * (spatial[axis] - 1) + extra[axis] + extent - removed
        if size < 0:
            raise ShapeMismatchError(f"pads of {removed} leave nothing of spatial axis {axis}")
        result.append(size)
    return tuple(result)


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
