"""Images of another size."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter


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
