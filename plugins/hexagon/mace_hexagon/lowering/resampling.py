"""Resize and Upsample along each axis by itself: picked elements, or products with a matrix of weights.

Whatever the mode, interpolation of one axis is linear in the elements, and the weights are known when the model is
compiled.  QNN's own Resize knows fewer modes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import Array, DeclinedError, NodeContext
from mace_hexagon.lowering.indexing import picked
from mace_hexagon.lowering.integers import Chain

_ROUND: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
_ROUNDING_NOISE = 1e-6


@dataclass(frozen=True)
class Axis:
    """One axis that is resized.

    Attributes:
        size, length: before and after.
        region: first and last position of tf_crop_and_resize, as parts of the axis.
    """

    axis: int
    size: int
    length: int
    scale: float
    region: tuple[float, float]


def resample(context: NodeContext) -> None:
    """Lower a Resize or Upsample of real numbers, or of integers by picking."""
    if context.is_quantized:
        raise DeclinedError("a quantized Resize is offered in QNN's own modes only")
    is_old = context.node.op_type == "Upsample" or context.lowering.view.opset() < 11
    mode = str(context.attr("mode", "nearest"))
    mode = {"bilinear": "linear", "trilinear": "linear"}.get(mode, mode)
    coordinates = "asymmetric" if is_old else str(context.attr("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if is_old else str(context.attr("nearest_mode", "round_prefer_floor"))
    tensor = context.x(0)
    if mode != "nearest" and context.dtype() not in (DType.FLOAT32, DType.FLOAT16):
        raise DeclinedError(f"Resize {mode} of {context.dtype().label} is not offered")
    beyond = float(context.attr("extrapolation_value", 0.0))
    for axis in _axes(context, is_old=is_old):
        at = _positions(axis, coordinates)
        outside = (at < 0) | (at > axis.size - 1) if coordinates == "tf_crop_and_resize" else np.zeros(len(at), bool)
        if mode == "nearest":
            if outside.any():
                raise DeclinedError("Resize nearest of a region beyond the picture is not offered")
            where = np.clip(_ROUND[rounding](at), 0, axis.size - 1).astype(np.int64)
            tensor = picked(context, tensor, axis.axis, where)
            continue
        weights = _weights(context, axis, at, cubic=mode == "cubic")
        weights[outside] = 0.0
        tensor = _product(context, tensor, axis.axis, weights, np.where(outside, beyond, 0.0))
    context.emit("Reshape", [tensor])


def _axes(context: NodeContext, *, is_old: bool) -> list[Axis]:
    shape, out = context.shape(), context.out_shape()
    axes = [axis % len(shape) for axis in context.attr("axes") or range(len(shape))]
    scales: list[float] = []
    scales_input = 1 if is_old else 2
    if context.node.op_type == "Upsample" and context.lowering.view.opset() < 9:
        scales = [float(scale) for scale in context.attr("scales") or ()]
    elif context.has(scales_input):
        scales = _numbers(context, scales_input)
    if not scales:
        sizes = _numbers(context, 3)
        scales = [size / shape[axis] for size, axis in zip(sizes, axes, strict=True)]
        policy = context.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            scales = [min(scales) if policy == "not_larger" else max(scales)] * len(axes)
    crops = context.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    region = _numbers(context, 1) if crops and not is_old else [0.0] * len(axes) + [1.0] * len(axes)
    found = []
    for index, (axis, scale) in enumerate(zip(axes, scales, strict=True)):
        bounds = region[index], region[index + len(axes)]
        if scale != 1.0 or out[axis] != shape[axis] or bounds != (0.0, 1.0):
            found.append(Axis(axis, shape[axis], out[axis], scale, bounds))
    return found


def _numbers(context: NodeContext, index: int) -> list[float]:
    found = context.array(index)
    if found is None:
        raise DeclinedError("Resize by sizes computed at run time is not offered")
    return [float(number) for number in found.reshape(-1)]


def _positions(axis: Axis, coordinates: str) -> Array:
    """Where each element of the result lies in the source."""
    x = np.arange(axis.length, dtype=np.float64)
    last, resized = axis.size - 1, axis.size * axis.scale
    if abs(resized - round(resized)) <= _ROUNDING_NOISE * resized:
        resized = float(round(resized))
    half: Array = (x + 0.5) / axis.scale - 0.5
    match coordinates:
        case "align_corners":
            return x * 0.0 if resized == 1.0 else x * last / (resized - 1.0)
        case "asymmetric":
            return x / axis.scale
        case "tf_half_pixel_for_nn":
            return half + 0.5
        case "pytorch_half_pixel":
            return half if axis.length > 1 else x * 0.0
        case "half_pixel_symmetric":
            shift = axis.size / 2 * (1.0 - axis.length / resized)
            return shift + half
        case "tf_crop_and_resize":
            begin, end = axis.region
            if axis.length == 1:
                return x * 0.0 + 0.5 * (begin + end) * last
            return begin * last + x * (end - begin) * last / (axis.length - 1)
        case "half_pixel":
            return half
        case other:
            raise DeclinedError(f"Resize with {other} is not offered")


def _weights(context: NodeContext, axis: Axis, at: Array, *, cubic: bool) -> Array:
    """(length, size): the share of each element of the source in each of the result."""
    antialias, excludes = bool(context.attr("antialias", 0)), bool(context.attr("exclude_outside", 0))
    a = float(context.attr("cubic_coeff_a", -0.75))
    stretch = min(axis.scale, 1.0) if antialias else 1.0
    reach = math.ceil((2.0 if cubic else 1.0) / stretch)
    weights = np.zeros((axis.length, axis.size))
    for row, x in enumerate(at):
        places = math.floor(x) + np.arange(1 - reach, reach + 1)
        share = _kernel(np.abs(places - x) * stretch, a if cubic else None)
        if antialias:
            share = share / share.sum()
        if excludes:
            share = np.where((places < 0) | (places >= axis.size), 0.0, share)
            share = share / (share.sum() or 1.0)
        np.add.at(weights[row], np.clip(places, 0, axis.size - 1), share)
    return weights


def _kernel(distance: Array, a: float | None) -> Array:
    """The linear kernel, or Keys' cubic one."""
    if a is None:
        return np.clip(1.0 - distance, 0.0, 1.0)
    near = ((a + 2.0) * distance - (a + 3.0)) * distance**2 + 1.0
    far = ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    return np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))


def _product(context: NodeContext, x: QTensor, axis: int, weights: Array, beyond: Array) -> QTensor:
    """``x`` times ``weights`` along an axis, plus ``beyond``."""
    chain, shape, numpy = Chain(context), x.shape, context.dtype().numpy
    length, size = weights.shape
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = context.reshaped(_turned(context, context.reshaped(x, (outer, size, inner))), (outer * inner, size))
    held = context.constant(np.ascontiguousarray(weights.T).astype(numpy), "weights")
    found = chain.shaped("MatMul", (rows, held), (outer * inner, length), x.data_type)
    if beyond.any():
        found = chain.op("ElementWiseAdd", found, context.constant(beyond.astype(numpy), "beyond"))
    back = _turned(context, context.reshaped(found, (outer, inner, length)))
    return context.reshaped(back, (*shape[:axis], length, *shape[axis + 1 :]))


def _turned(context: NodeContext, x: QTensor) -> QTensor:
    """The last two of three axes exchanged."""
    first, second, third = x.shape
    if second == 1 or third == 1:
        return context.reshaped(x, (first, third, second))
    return Chain(context).shaped(
        "Transpose", (x,), (first, third, second), x.data_type, perm=np.array([0, 2, 1], np.uint32)
    )
