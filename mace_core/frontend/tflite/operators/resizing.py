"""Images of another size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter, sixteen_bit_converter
from mace_core.graph import Value
from mace_core.tensor import DType


@converter("RESIZE_BILINEAR", options="ResizeBilinearOptions")
def bilinear(op: Operation) -> None:
    _resize(op, {"mode": "linear", "coordinate_transformation_mode": _coordinates(op)})


@converter("RESIZE_NEAREST_NEIGHBOR", options="ResizeNearestNeighborOptions")
def nearest(op: Operation) -> None:
    """LiteRT rounds places down where neither option is set, else to the nearest, halves up.

    With half pixel centers it takes floor((x + 0.5) * scale): the same as rounding (x + 0.5) * scale - 0.5.
    """
    coordinates = _coordinates(op)
    rounding = "floor" if coordinates == "asymmetric" else "round_prefer_ceil"
    _resize(op, {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding})


def _coordinates(op: Operation) -> str:
    corners, centers = op.option("AlignCorners"), op.option("HalfPixelCenters")
    if corners and centers:
        raise op.error("aligns corners and has half pixel centers, which exclude each other")
    return "align_corners" if corners else "half_pixel" if centers else "asymmetric"


def _resize(op: Operation, attributes: dict[str, str]) -> None:
    image(op, 0)
    x = op.to_channels_first(op.real(0))
    y = op.emit("Resize", [x, None, None, op.sizes(1)], {**attributes, "axes": [2, 3]})
    op.finish(op.to_channels_last(y))


_ONE = 1 << 10
"""LiteRT's weights of neighbors have 10 bits."""


_LARGEST = 1 << 16
"""Pixels of a side whose neighbors are listed: a few bytes of a file could ask for any number."""


@sixteen_bit_converter("RESIZE_BILINEAR", options="ResizeBilinearOptions")
def bilinear_of_sixteen_bits(op: Operation) -> None:
    """In integers, as LiteRT does: the step between places is rounded to 1/1024, which grows along an axis."""
    size, (_, height, width, _) = op.constant(1), image(op, 0)
    is_known = size is not None and size.size == 2 and 0 < size.min() <= size.max() <= _LARGEST
    if size is None or not is_known or not height or not width or not op.is_alike(op.tensor(0), op.result()):
        bilinear(op)
        return
    coordinates = _coordinates(op)
    y = op.cast(op.stored(0), DType.INT64)
    for axis, (before, after) in enumerate(zip((height, width), (int(n) for n in size.reshape(-1)), strict=True), 1):
        y = _between_neighbors(op, y, axis, *_neighbors(before, after, coordinates))
    half = op.emit("Mul", [op.emit("Sign", [y]), op.number(_ONE * _ONE // 2)])
    y = op.emit("Div", [op.emit("Add", [y, half]), op.number(_ONE * _ONE)])
    op.keep(op.cast(y, DType.INT16))


def _neighbors(before: int, after: int, coordinates: str) -> tuple[npt.NDArray[np.int64], ...]:
    """For each of ``after`` places the lower and the upper neighbor of ``before``, and the weight of the upper one."""
    if coordinates == "align_corners" and after > 1:
        step = (_ONE * (before - 1) + (after - 1) // 2) // (after - 1)
    else:
        step = (_ONE * before + after // 2) // after
    at = np.arange(after) * step
    if coordinates == "half_pixel":
        at += step // 2 - _ONE // 2
    lower = np.clip(np.trunc(at / _ONE).astype(np.int64), 0, before - 1)  # LiteRT reads behind the image at times
    upper = np.minimum(np.trunc((at + _ONE - 1) / _ONE).astype(np.int64), before - 1)
    return lower, upper, at - _ONE * lower


def _between_neighbors(
    op: Operation,
    x: Value,
    axis: int,
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    weight: npt.NDArray[np.int64],
) -> Value:
    """``x`` times 1024 at other places of an axis."""
    shape = (-1, *(1,) * (3 - axis))
    parts = [
        op.emit(
            "Mul",
            [op.emit("Gather", [x, op.number(at)], {"axis": axis}), op.number(share.reshape(shape))],
        )
        for at, share in ((lower, _ONE - weight), (upper, weight))
    ]
    return op.emit("Add", parts)
