"""Resize: Neuron has three ways to say which input element an output element comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mace_apu.description import scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import NHWC
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import Array
from mace_apu.neuron.constants import Operation

_CHOICES = ((False, False), (False, True), (True, False))
"""Aligned corners, half-pixel centres."""

_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.asarray(np.ceil(x - 0.5)),
    "round_prefer_ceil": lambda x: np.asarray(np.floor(x + 0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}

_MARGIN = 1e-4
"""How near to a step of the rounding coordinates may come and still count as sure."""


def _resize(context: NodeContext) -> None:
    shape, out = context.shape(), context.out_shape()
    mode = context.attr("mode", "nearest")
    if len(shape) != 4 or shape[:2] != out[:2]:
        raise DeclinedError("Resize is offered for the last two of four dimensions only")
    if mode not in ("nearest", "linear"):
        raise DeclinedError(f"Resize {mode} is not offered by Neuron")
    if context.attr("antialias", 0) or context.attr("exclude_outside", 0):
        raise DeclinedError("Resize with antialias or exclude_outside is not offered by Neuron")
    wanted = [_onnx_coordinates(context, axis) for axis in (2, 3)]
    for aligned, centred in _CHOICES:
        pairs = [(own, shape[axis], out[axis]) for axis, own in zip((2, 3), wanted, strict=True)]
        if all(_agrees(context, own, size, count, aligned, centred) for own, size, count in pairs):
            break
    else:
        raise DeclinedError(f"Resize {mode} with {_transformation(context)} takes elements here that Neuron does not")
    x = context.x(0, NHWC)
    context.require_same_encoding(x)
    operation = Operation.RESIZE_NEAREST_NEIGHBOR if mode == "nearest" else Operation.RESIZE_BILINEAR
    sizes = [scalar_int(out[3], "width"), scalar_int(out[2], "height")]
    flags = [scalar_bool(False, "nchw"), scalar_bool(aligned, "align_corners"), scalar_bool(centred, "half_pixel")]
    context.emit(operation, [x, *sizes, *flags], NHWC)


def _transformation(context: NodeContext) -> str:
    if context.node.op_type == "Upsample" or context.lowering.view.opset() < 11:
        return "asymmetric"
    return str(context.attr("coordinate_transformation_mode", "half_pixel"))


def _factor(context: NodeContext, axis: int) -> float:
    """Output length over input length, as the node states it."""
    size, count = context.shape()[axis], context.out_shape()[axis]
    index = 1 if context.lowering.view.opset() < 11 else 2
    scales = context.array(index) if context.has(index) else None
    if scales is None or not scales.size:
        return count / size
    axes = [each % len(context.shape()) for each in context.attr("axes", None) or range(len(context.shape()))]
    return float(dict(zip(axes, scales.reshape(-1), strict=True)).get(axis, 1.0))


def _onnx_coordinates(context: NodeContext, axis: int) -> Array:
    """Where the elements of the result come from, as real positions."""
    size, count = context.shape()[axis], context.out_shape()[axis]
    transformation, factor = _transformation(context), _factor(context, axis)
    i = np.arange(count, dtype=np.float64)
    if transformation == "asymmetric":
        return np.asarray(i / factor)
    if transformation == "align_corners":
        return np.asarray(i * (size - 1) / (size * factor - 1) if count > 1 else i)  # need not be a whole length
    if transformation == "half_pixel" or (transformation == "pytorch_half_pixel" and count > 1):
        return np.asarray((i + 0.5) / factor - 0.5)
    if transformation == "pytorch_half_pixel":
        return np.zeros(count)
    raise DeclinedError(f"Resize with {transformation} is not offered by Neuron")


def _agrees(context: NodeContext, own: Array, size: int, count: int, aligned: bool, centred: bool) -> bool:
    """Whether Neuron takes the same elements along one axis."""
    step = (size - 1) / (count - 1) if aligned and count > 1 else size / count
    i = np.arange(count, dtype=np.float64)
    if context.attr("mode", "nearest") == "linear":
        theirs = (i + 0.5) * step - 0.5 if centred else i * step
        return bool(np.allclose(np.clip(own, 0, size - 1), np.clip(theirs, 0, size - 1), rtol=0, atol=1e-4))
    rounding = _ROUNDINGS["floor" if context.lowering.view.opset() < 11 else
                          context.attr("nearest_mode", "round_prefer_floor")]  # fmt: skip
    half, single = np.float32(0.5), np.float32(step)
    exact = (i.astype(np.float32) + half) * single if centred else i.astype(np.float32) * single
    # at half-pixel centres the last bit decides nowhere; elsewhere whole numbers are met exactly
    nudges = (-_MARGIN, _MARGIN) if centred else (0.0,)
    found = [np.floor(exact + nudge + (0.5 if aligned else 0)) for nudge in nudges]
    wanted = np.clip(rounding(own), 0, size - 1)
    return all(np.array_equal(wanted, np.clip(each, 0, size - 1)) for each in found)


LOWERINGS.add({"Resize": _resize, "Upsample": _resize})
