"""From a picture of any size, as a decoder gives it, to the input of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import Graph, Value
from mace_core.processing.step import Step, Writer, tensor_type
from mace_core.tensor import DType

FITS = ("stretch", "crop", "pad")
_GRAY = (0.299, 0.587, 0.114)
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Picture(Step):
    """A picture, uint8 (height, width, 3) in the order red, green, blue: resized, normalized, in the model's layout.

    ``(pixel - mean) * scale``, with pixels from 0 to 255.  Resizing is linear, and smooths what gets smaller, as Pillow
    does.

    Attributes:
        size: (width, height) of what the model gets; None: what its input says.
        fit: "stretch" to that size; "crop": resized so that it covers it, and cut out of the middle; "pad": resized so
            that it fits into it, in the middle of ``filler``.
        resize: with "crop": the shorter side before the cut; None: that of ``size``.
        mean, scale: one number, or one for each channel of the model, in its order.
        bgr: the model's channels are blue, green, red.
        layout: "NCHW", "NHWC", or "" to tell from the input's shape.
        filler: pixel value around a picture that is padded.
        port: the input.
    """

    size: tuple[int, int] | None = None
    fit: str = "stretch"
    resize: int | None = None
    mean: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1 / 255,)
    bgr: bool = False
    layout: str = ""
    filler: float = 0.0
    port: str = ""

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise UsageError(f"picture: fit is {', '.join(FITS)}, not '{self.fit}'")
        if self.layout not in ("", "NCHW", "NHWC"):
            raise UsageError(f"picture: layout is NCHW or NHWC, not '{self.layout}'")
        if self.resize is not None and (self.fit != "crop" or self.resize < 1):
            raise UsageError("picture: resize is the shorter side before a crop, in pixels: give fit=crop too")
        if self.size is not None and not all(0 < side <= 1 << 16 for side in self.size):
            raise UsageError(f"picture: a size is WIDTHxHEIGHT of 1 to 65536 pixels, not {self.size[0]}x{self.size[1]}")

    def described(self) -> dict[str, Any]:
        return {"step": "picture", **{key: value for key, value in asdict(self).items() if key != "port"}}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = tensor_type(value, "input")
        shape = type.shape
        if shape is None or len(shape) != 4 or (shape[0] not in (1, None) and not isinstance(shape[0], str)):
            raise UsageError(f"picture: the input '{value.name}' is {type}, and a picture is one of four dimensions")
        is_last = self.layout == "NHWC" or (not self.layout and shape[3] in _CHANNELS and shape[1] not in _CHANNELS)
        channels, *sides = (shape[3], shape[1], shape[2]) if is_last else (shape[1], shape[2], shape[3])
        channels = channels if isinstance(channels, int) else 3
        if channels not in _CHANNELS:
            raise UsageError(f"picture: the input '{value.name}' has {channels} channels; pictures have 1 or 3")
        size = self._size(value, sides)
        w = Writer("picture", opset)
        pixels = w.input(value.name, DType.UINT8, ("height", "width", 3))
        planes = w.cast(w.with_axis("Unsqueeze", w.op("Transpose", [pixels], perm=(2, 0, 1)), 0), DType.FLOAT32)
        planes = _resized(w, planes, size, self)
        if channels == 1:
            weights = w.constant(np.array(_GRAY, np.float32).reshape(1, 3, 1, 1))
            planes = w.with_axis("ReduceSum", w.op("Mul", [planes, weights]), 1, keepdims=1)
        elif self.bgr:
            planes = w.op("Gather", [planes, w.ints(2, 1, 0)], axis=1)
        planes = w.op("Sub", [planes, self._per_channel(w, "mean", self.mean, channels)])
        planes = w.op("Mul", [planes, self._per_channel(w, "scale", self.scale, channels)])
        if type.dtype.is_integer:
            limits = np.iinfo(type.dtype.numpy)
            planes = w.op("Clip", [w.op("Round", [planes]), w.scalar(limits.min), w.scalar(limits.max)])
        if type.dtype is not DType.FLOAT32:
            planes = w.cast(planes, type.dtype)
        result = w.op("Transpose", [planes], perm=(0, 2, 3, 1)) if is_last else w.op("Identity", [planes])
        w.output(result, "picture")
        return w.graph

    def _size(self, value: Value, sides: list[Any]) -> tuple[int, int]:
        """(height, width) of what the model gets."""
        asked = [None, None] if self.size is None else [self.size[1], self.size[0]]
        for own, wanted in zip(sides, asked, strict=True):
            if isinstance(own, int) and wanted is not None and own != wanted:
                raise UsageError(f"picture: the input '{value.name}' is {value.type}, which has another size")
        found = [own if isinstance(own, int) else wanted for own, wanted in zip(sides, asked, strict=True)]
        if None in found:
            raise UsageError(
                f"picture: the input '{value.name}' leaves its size free: give the one to resize to, size=WIDTHxHEIGHT"
            )
        return found[0], found[1]  # type: ignore[return-value]

    def _per_channel(self, w: Writer, what: str, numbers: tuple[float, ...], channels: int) -> Value:
        if len(numbers) not in (1, channels):
            raise UsageError(f"picture: {what} has {len(numbers)} numbers for {channels} channels")
        return w.constant(np.array(numbers, np.float32).reshape(1, -1, 1, 1))


def _resized(w: Writer, planes: Value, size: tuple[int, int], step: Picture) -> Value:
    """(1, 3, height, width) in the size of the model, by products with matrices of weights: rows, then columns.

    Each pixel is the mean of those under a triangle around its place, as wide as two of the larger pixels.  So does
    Pillow, up to its roundings; the operator Resize (``antialias``) puts other weights on pixels.
    """
    shape = w.op("Shape", [planes])
    sides = [w.cast(w.op("Gather", [shape, w.ints(axis)], axis=0), DType.FLOAT32) for axis in (2, 3)]  # [1] each
    if step.fit == "stretch":
        resized = [w.constant([float(side)], np.float32) for side in size]
    else:
        targets = (step.resize, step.resize) if step.resize is not None else size
        ratios = [w.op("Div", [w.constant([float(t)], np.float32), s]) for t, s in zip(targets, sides, strict=True)]
        ratio = w.op("Max" if step.fit == "crop" else "Min", ratios)
        half = w.constant([0.5], np.float32)
        resized = [w.op("Floor", [w.op("Add", [w.op("Mul", [side, ratio]), half])]) for side in sides]
    rows, row_mask = _weights(w, sides[0], resized[0], size[0])
    columns, column_mask = _weights(w, sides[1], resized[1], size[1])
    moved = w.op("Sub", [planes, w.scalar(step.filler)]) if step.filler else planes
    found = w.op("MatMul", [w.op("MatMul", [rows, moved]), w.op("Transpose", [columns], perm=(1, 0))])
    if step.fit == "pad":
        found = w.op("Mul", [found, w.op("MatMul", [row_mask, w.op("Transpose", [column_mask], perm=(1, 0))])])
    return w.op("Add", [found, w.scalar(step.filler)]) if step.filler else found


def _weights(w: Writer, side: Value, resized: Value, size: int) -> tuple[Value, Value]:
    """The matrix (size, side) of one axis, and a column (size, 1) of ones where the picture is and zeros around it."""
    one, half = w.constant([1.0], np.float32), w.constant([0.5], np.float32)
    scale = w.op("Div", [side, resized])
    spare = w.op("Div", [w.op("Sub", [resized, w.constant([float(size)], np.float32)]), w.constant([2.0], np.float32)])
    places = w.constant(np.arange(size, dtype=np.float32).reshape(-1, 1))
    inside = w.op("Add", [places, w.op("Floor", [spare])])  # places in the resized picture
    centers = w.op("Sub", [w.op("Mul", [w.op("Add", [inside, half]), scale]), half])
    count = w.with_axis("Squeeze", side, 0)
    pixels = w.op("Range", [w.scalar(0), count, w.scalar(1)])
    distance = w.op("Abs", [w.op("Sub", [centers, w.with_axis("Unsqueeze", pixels, 0)])])
    shrunk = w.op("Div", [distance, w.op("Max", [scale, one])])
    weights = w.op("Relu", [w.op("Sub", [one, shrunk])])
    total = w.with_axis("ReduceSum", weights, 1, keepdims=1)
    tiny = w.constant([1e-6], np.float32)
    mask = w.op("And", [w.op("Greater", [inside, w.constant([-0.5], np.float32)]), w.op("Less", [inside, resized])])
    return w.op("Div", [weights, w.op("Max", [total, tiny])]), w.cast(mask, DType.FLOAT32)
