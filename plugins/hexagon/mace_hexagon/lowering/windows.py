"""Sliding windows in the form that QNN takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.graph import sliding_window
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
        DeclinedError: for a negative padding.
    """
    window = sliding_window(context.node, spatial, kernel)
    pads = tuple(zip(window.begins, window.ends, strict=True))
    if any(pad < 0 for pair in pads for pad in pair):
        raise DeclinedError("negative padding is not offered by QNN")
    return Window(window.kernel, window.strides, window.dilations, pads)
