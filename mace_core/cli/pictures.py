"""Pictures as input tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, UsageError
from mace_core.tensor import TensorSpec
from mace_core.tensor.types import Shape

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """How a picture becomes a tensor: ``(pixel - mean) * scale`` with pixels from 0 to 255.

    Attributes:
        layout: "NCHW", "NHWC", or "" to tell from the input's shape.
        mean, scale: one number, or one per channel; None: 0 and 1/255 for float inputs, 0 and 1 for integer ones.
        size: (width, height) to resize to; None: what the input's shape says, else the picture's own.
        bgr: channels in the order blue, green, red.
    """

    layout: str = ""
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    bgr: bool = False


def load_picture(path: Path, spec: TensorSpec, shape: Shape | None, options: PictureOptions) -> npt.NDArray[Any]:
    """The picture as a tensor for the input ``spec``, whose shape is ``shape`` as far as it is known.

    Raises:
        InputError: if the file is no readable picture, or the input is not of a picture's form.
    """
    from PIL import Image

    if shape is not None and len(shape) not in (3, 4):
        raise InputError(
            f"the input '{spec}' has {len(shape)} dimensions, so '{path}' can not be put into it as a picture"
        )
    layout = options.layout or _guess_layout(shape)
    channels, height, width = _dimensions(shape, layout)
    if channels not in _MODES:
        raise InputError(f"the input '{spec}' has {channels} channels in layout {layout}; pictures have 1, 3 or 4")
    try:
        with Image.open(path) as opened:
            picture = opened.convert(_MODES[channels])
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}'") from None
    except Exception as error:  # the library raises many kinds for a damaged or huge file
        raise InputError(f"'{path}' can not be read as a picture: {error}") from error
    size = options.size or (width or picture.width, height or picture.height)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    return _normalise(np.asarray(picture).reshape(size[1], size[0], channels), spec, shape, layout, options)


def _normalise(
    pixels: npt.NDArray[Any], spec: TensorSpec, shape: Shape | None, layout: str, options: PictureOptions
) -> npt.NDArray[Any]:
    if options.bgr and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    mean = _per_channel("--mean", options.mean or (0.0,), pixels.shape[2])
    scale = _per_channel("--scale", options.scale or ((1 / 255,) if spec.dtype.is_float else (1.0,)), pixels.shape[2])
    values = (pixels.astype(np.float32) - mean) * scale
    if layout == "NCHW":
        values = values.transpose(2, 0, 1)
    if shape is None or len(shape) == 4:
        values = values[None]
    if spec.dtype.is_integer:
        limits = np.iinfo(spec.dtype.numpy)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.ascontiguousarray(values.astype(spec.dtype.numpy))


def _per_channel(option: str, numbers: tuple[float, ...], channels: int) -> npt.NDArray[np.float32]:
    if len(numbers) not in (1, channels):
        raise UsageError(f"{option} has {len(numbers)} numbers for a picture of {channels} channels")
    return np.asarray(numbers, np.float32)


def _guess_layout(shape: Shape | None) -> str:
    """Channels last only where the last dimension is a channel count and the other candidate is not."""
    if shape is None or len(shape) < 3:
        return "NCHW"
    return "NHWC" if shape[-1] in _MODES and shape[-3] not in _MODES else "NCHW"


def _dimensions(shape: Shape | None, layout: str) -> tuple[int, int, int]:
    """(channels, height, width); 3 and 0 and 0 where the shape does not say."""
    if shape is None:
        return 3, 0, 0
    last = [dim if isinstance(dim, int) else 0 for dim in shape[-3:]]
    channels, height, width = last if layout == "NCHW" else (last[2], last[0], last[1])
    return channels or 3, height, width
