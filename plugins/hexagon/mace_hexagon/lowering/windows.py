"""Sliding windows: strides, dilations and padding as ONNX writes them, resolved to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_hexagon.lowering.context import DeclinedError, NodeContext


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the spatial axes.

    Attributes:
        pads: (before, after) per axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]

    def pad_amount(self) -> npt.NDArray[np.uint32]:
        """As QNN's parameter."""
        return np.array(self.pads, np.uint32)


def resolve_window(context: NodeContext, kernel: Sequence[int], spatial: Sequence[int]) -> Window:
    """The window of a convolution or pooling node over an input of ``spatial`` size.

    Raises:
        DeclinedError: for an unknown or negative padding.
    """
    count = len(spatial)
    strides = tuple(context.attr("strides") or (1,) * count)
    dilations = tuple(context.attr("dilations") or (1,) * count)
    mode = context.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        flat = tuple(context.attr("pads") or (0,) * (2 * count))
        pads = tuple((flat[i], flat[i + count]) for i in range(count))
    elif mode == "VALID":
        pads = ((0, 0),) * count
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = tuple(
            _same(size, extent, stride, (width - 1) * dilation + 1, mode == "SAME_UPPER")
            for size, extent, stride, width, dilation in zip(
                spatial, (-(-s // t) for s, t in zip(spatial, strides, strict=True)), strides, kernel, dilations,
                strict=True,
            )
        )  # fmt: skip
    else:
        raise DeclinedError(f"auto_pad {mode} is unknown")
    if any(pad < 0 for pair in pads for pad in pair):
        raise DeclinedError("negative padding is not offered by QNN")
    return Window(tuple(kernel), strides, dilations, pads)


def _same(size: int, out: int, stride: int, reach: int, upper: bool) -> tuple[int, int]:
    total = max((out - 1) * stride + reach - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)
