"""Pooling and resizing, on pictures with channels last."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_hexagon.lowering.averages import pool_by_positions
from mace_hexagon.lowering.context import NHWC, DeclinedError, NodeContext
from mace_hexagon.lowering.resampling import resample
from mace_hexagon.lowering.table import LOWERINGS
from mace_hexagon.lowering.windows import Window, resolve_window

_TRANSFORMATIONS = {"half_pixel": 0, "pytorch_half_pixel": 1, "align_corners": 2, "asymmetric": 3}
_INTERPOLATIONS = {"nearest": 0, "linear": 1}
_ROUNDINGS = {"round_prefer_floor": 0, "round_prefer_ceil": 1, "floor": 2, "ceil": 3}


def _pool(context: NodeContext) -> None:
    """By QNN's own operation where it computes the pooling rightly, else position by position."""
    try:
        _pool_whole(context)
    except DeclinedError:
        if context.is_quantized:
            raise
        pool_by_positions(context)


def _pool_whole(context: NodeContext) -> None:
    shape = _picture(context)
    window = resolve_window(context, context.attr("kernel_shape"), shape[2:])
    if any(dilation != 1 for dilation in window.dilations):
        raise DeclinedError(f"{context.node.op_type} with dilations is not offered by QNN")
    if context.node.output(1) is not None:
        raise DeclinedError("MaxPool with indices is not offered by QNN")
    out = context.out_shape()[2:]
    if context.attr("ceil_mode", 0):
        if context.attr("count_include_pad", 0):
            raise DeclinedError("AveragePool that counts padding and rounds up is not offered")
        window = _rounded_up(window, shape[2:], out)
    parameters: dict[str, Any] = {
        "filter_size": np.array(window.kernel, np.uint32),
        "stride": np.array(window.strides, np.uint32),
        "pad_amount": window.pad_amount(),
    }
    if context.node.op_type == "MaxPool":
        context.emit("PoolMax2d", [context.x(0, NHWC)], NHWC, **parameters)
        return
    if any(pad for pair in window.pads for pad in pair) and not context.is_quantized:
        # own padding and a Pad before it (which is merged into the pooling) both give wrong averages or crash
        raise DeclinedError("AveragePool of real numbers over padding is computed wrongly by the library")
    parameters["count_pad_for_edges"] = np.bool_(context.attr("count_include_pad", 0))
    context.emit("PoolAvg2d", [context.x(0, NHWC)], NHWC, **parameters)


def _global_pool(context: NodeContext) -> None:
    shape = context.shape()
    if len(shape) != 4 and not context.is_quantized:
        _reduce_spatial(context)
        return
    shape = _picture(context)
    size = np.array(shape[2:], np.uint32)
    parameters: dict[str, Any] = {"filter_size": size, "stride": size, "pad_amount": np.zeros((2, 2), np.uint32)}
    operation = "PoolMax2d" if context.node.op_type == "GlobalMaxPool" else "PoolAvg2d"
    context.emit(operation, [context.x(0, NHWC)], NHWC, **parameters)


def _reduce_spatial(context: NodeContext) -> None:
    rank = len(context.shape())
    operation = "ReduceMax" if context.node.op_type == "GlobalMaxPool" else "ReduceMean"
    axes = np.arange(2, rank, dtype=np.uint32)
    context.emit(operation, [context.x(0)], axes=axes, keep_dims=np.bool_(True))


def _resize(context: NodeContext) -> None:
    """By QNN's own operation where it computes the mode rightly, else axis by axis."""
    try:
        _resize_whole(context)
    except DeclinedError:
        if context.is_quantized:
            raise
        resample(context)


def _resize_whole(context: NodeContext) -> None:
    if context.lowering.view.opset() < 11:
        raise DeclinedError("Resize until opset 10 rounds in another way than QNN")
    shape, out = _picture(context), context.out_shape()
    if shape[:2] != out[:2]:
        raise DeclinedError("Resize of batch or channels is not offered by QNN")
    mode = context.attr("mode", "nearest")
    transformation = context.attr("coordinate_transformation_mode", "half_pixel")
    if mode not in _INTERPOLATIONS or transformation not in _TRANSFORMATIONS:
        raise DeclinedError(f"Resize {mode} with {transformation} is not offered on the HTP")
    if mode == "nearest" and transformation != "asymmetric" and context.attr("nearest_mode") == "floor":
        raise DeclinedError(f"Resize with {transformation} and nearest_mode floor is computed wrongly by the library")
    if context.attr("antialias", 0) or context.attr("exclude_outside", 0):
        raise DeclinedError("Resize with antialias or exclude_outside is not offered on the HTP")
    if transformation == "pytorch_half_pixel" and any(a != b == 1 for a, b in zip(shape, out, strict=True)):
        raise DeclinedError("Resize to one element with pytorch_half_pixel takes the middle on the HTP, not the first")
    if context.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise DeclinedError("Resize that keeps the aspect ratio is not offered by QNN")
    scales = context.array(2) if context.has(2) else None
    if scales is not None and scales.size:
        axes = [axis % len(shape) for axis in context.attr("axes", range(len(shape)))]
        exact = [scale * shape[axis] == out[axis] for scale, axis in zip(scales, axes, strict=True)]
        if not all(exact):
            raise DeclinedError("Resize by factors that give no whole size is not offered by QNN")
    parameters: dict[str, Any] = {
        "exclude_outside": np.bool_(False),
        "transformation_mode": np.uint32(_TRANSFORMATIONS[transformation]),
        "interpolation_mode": np.uint32(_INTERPOLATIONS[mode]),
    }
    if mode == "nearest":
        parameters["nearest_mode"] = np.uint32(_ROUNDINGS[context.attr("nearest_mode", "round_prefer_floor")])
    context.emit("Resize", [context.x(0, NHWC)], NHWC, **parameters)


def _depth_to_space(context: NodeContext) -> None:
    _picture(context)
    block = np.array([context.attr("blocksize")] * 2, np.uint32)
    mode = np.uint32(0 if context.attr("mode", "DCR") == "DCR" else 1)
    context.emit(context.node.op_type, [context.x(0, NHWC)], NHWC, block_size=block, mode=mode)


def _picture(context: NodeContext) -> tuple[int, ...]:
    shape = context.shape(0)
    if len(shape) != 4:
        raise DeclinedError(f"{context.node.op_type} is offered for four dimensions, '{context.operand(0).name}' has "
                            f"{len(shape)}")  # fmt: skip
    return shape


def _rounded_up(window: Window, sizes: tuple[int, ...], out: tuple[int, ...]) -> Window:
    """The same window with as much padding behind as the last position needs."""
    pads = tuple(
        (before, max((count - 1) * stride + kernel - size - before, 0))
        for (before, _), count, stride, kernel, size in zip(
            window.pads, out, window.strides, window.kernel, sizes, strict=True
        )
    )
    return Window(window.kernel, window.strides, window.dilations, pads)


LOWERINGS.add(
    {
        "MaxPool": _pool,
        "AveragePool": _pool,
        "LpPool": pool_by_positions,
        "GlobalAveragePool": _global_pool,
        "GlobalMaxPool": _global_pool,
        "Resize": _resize,
        "Upsample": resample,
        "DepthToSpace": _depth_to_space,
        "SpaceToDepth": _depth_to_space,
    }
)
