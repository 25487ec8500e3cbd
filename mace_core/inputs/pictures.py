"""Pictures as input tensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, MaceError, UsageError
from mace_core.tensor import TensorSpec
from mace_core.tensor.types import Shape

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")

Tell: TypeAlias = Callable[[str], None]


def keep_quiet(sentence: str) -> None:
    """Nobody wants to know."""


_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """How a picture becomes a tensor: ``(pixel - mean) * scale`` with pixels from 0 to 255, of 16 bits too.

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


def load_picture(
    path: Path, spec: TensorSpec, shape: Shape | None, options: PictureOptions, tell: Tell = keep_quiet
) -> npt.NDArray[Any]:
    """The picture as a tensor for the input ``spec``, whose shape is ``shape`` as far as it is known.

    Args:
        tell: gets a sentence where something of the file is not used: frames after the first, transparency.

    Raises:
        InputError: if the file is not a readable picture, or the input is not of a picture's form.
    """
    from PIL import Image, UnidentifiedImageError

    if shape is not None and len(shape) not in (3, 4):
        raise InputError(
            f"the input '{spec}' has {len(shape)} dimensions, so '{path}' cannot be put into it as a picture"
        )
    layout = options.layout or _guess_layout(shape)
    channels, height, width = _dimensions(shape, layout)
    if channels not in _MODES:
        raise InputError(f"the input '{spec}' has {channels} channels in layout {layout}; pictures have 1, 3 or 4")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                picture = _oriented(opened, path, channels, tell)
    except MaceError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"'{path}' has more than {Image.MAX_IMAGE_PIXELS} pixels, too many to be read: make it smaller first"
        ) from None
    except UnidentifiedImageError:
        raise InputError(f"'{path}' is not a picture that can be read{what_else(path)}") from None
    except MemoryError:
        raise InputError(f"'{path}' is a picture larger than the memory left") from None
    except Exception as error:  # the library raises many kinds for a damaged file
        raise InputError(f"'{path}' cannot be read as a picture, it is damaged or cut off: {error}") from error
    size = options.size or (width or picture.width, height or picture.height)
    if size[0] * size[1] > Image.MAX_IMAGE_PIXELS:  # type: ignore[operator]
        raise UsageError(f"'{path}' would be resized to {size[0]}x{size[1]}, more pixels than a picture may have")
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.float32).reshape(size[1], size[0], -1)
    if pixels.shape[2] != channels:  # gray of 16 bits: the same in every color, and nothing is transparent
        pixels = np.repeat(pixels, channels, axis=2)
        if channels == 4:
            pixels[:, :, 3] = 255
    return _normalize(pixels, spec, shape, layout, options)


def _oriented(opened: Image.Image, path: Path, channels: int, tell: Tell) -> Image.Image:
    """The first frame, upright as its EXIF data say, in the mode for so many channels.

    Gray of 16 bits becomes floating-point numbers from 0 to 255, so that nothing of it is lost; colors of 16 bits are
    read with 8 by Pillow.
    """
    from PIL import Image, ImageOps

    if getattr(opened, "n_frames", 1) > 1:
        tell(f"'{path}' has {opened.n_frames} frames; the first one is taken")  # type: ignore[attr-defined]
    is_png = opened.format == "PNG"
    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I;16") or (upright.mode == "I" and is_png):
        return Image.fromarray(np.asarray(upright).astype(np.float32) * np.float32(255 / 65535))
    if upright.mode in ("I", "F"):
        raise InputError(
            f"'{path}' holds numbers of 32 bits and does not say which of them is white: save it with 8 or 16 bits, or "
            "give its values as a .npy file"
        )
    if channels < 4 and upright.has_transparency_data and _is_seen_through(upright):
        tell(f"'{path}' is transparent in places; the colors there are taken as they are")
    return upright.convert(_MODES[channels])


def _is_seen_through(picture: Image.Image) -> bool:
    lowest, _ = picture.convert("RGBA").getchannel("A").getextrema()
    return isinstance(lowest, int | float) and lowest < 255


def what_else(path: Path) -> str:
    """What a file is that is not a picture, where that is known."""
    from mace_core.frontend.file_kinds import SNIFFED_BYTES, foreign_kind

    with path.open("rb") as file:
        kind = foreign_kind(file.read(SNIFFED_BYTES))
    return f"; it is {kind.what}" if kind is not None else ""


def _normalize(
    pixels: npt.NDArray[Any], spec: TensorSpec, shape: Shape | None, layout: str, options: PictureOptions
) -> npt.NDArray[Any]:
    if options.bgr and pixels.shape[2] >= 3:
        pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    mean = _per_channel("--mean", options.mean or (0.0,), pixels.shape[2])
    scale = _per_channel("--scale", options.scale or ((1 / 255,) if spec.dtype.is_float else (1.0,)), pixels.shape[2])
    values = (pixels - mean) * scale
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
