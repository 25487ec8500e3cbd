"""Argument words of the depthwise convolution of bytes and words, apart from its generator, which needs llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.quads import QuadUnit


class Arg(enum.IntEnum):
    """Word by word.  Distances are in bytes, of the input and the result in numbers."""

    INPUT = 0
    WEIGHTS = enum.auto()  # [block][tap, or column and quad of rows][vector]
    BIAS = enum.auto()  # int32 [block][vector]: what sums start from
    SCALES = enum.auto()  # float32, the same
    FLOAT_BIAS = enum.auto()  # float32, the same, where there is one
    OUTPUT = enum.auto()
    PADDING = enum.auto()  # a pixel around the image
    CHANNELS = enum.auto()
    BLOCKS = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    OUT_ROWS = enum.auto()
    OUT_WIDTH = enum.auto()
    ROW_DILATION = enum.auto()
    ROW_STRIDE = enum.auto()
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a depthwise convolution of bytes depends on.

    Attributes:
        pixels: output pixels per tile.
        rows, taps: of the kernel.
        stride, dilation: along a row.
        unit: what multiplies; None: nothing of the kind, numbers are widened.
        is_signed: the numbers of the input are signed.
        is_wide: they have 16 bits.
        partial: the last block of channels is not full.
        spec: what becomes of the sums.
    """

    pixels: int
    rows: int
    taps: int
    stride: int
    dilation: int
    unit: QuadUnit | None
    is_signed: bool
    is_wide: bool
    partial: bool
    spec: Requantization

    @property
    def interleaved(self) -> bool:
        """Whether sums are requantized in the order in which they come from interleaved bytes.

        From the short vectors of aarch64 they come in order.
        """
        return self.unit not in (None, QuadUnit.DOT) and self.spec.is_quantized and self.spec.floats is None

    @property
    def vectors(self) -> int:
        """Vectors of sums for a vector of the input's numbers."""
        return 2 if self.is_wide else 4

    @property
    def folded(self) -> int:
        """Kernel rows whose numbers meet in one lane, where a unit multiplies them."""
        return self.vectors

    @property
    def span(self) -> int:
        """Input pixels from the first to the last one a tile sees."""
        return (self.pixels - 1) * self.stride + (self.taps - 1) * self.dilation + 1

    def meetings(self) -> dict[int, list[tuple[int, int]]]:
        """(output pixel, tap) pairs that meet each input pixel of the window, by its distance from the first."""
        found: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(self.pixels):
            for tap in range(self.taps):
                found.setdefault(pixel * self.stride + tap * self.dilation, []).append((pixel, tap))
        return dict(sorted(found.items()))

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        flags = "s" * self.is_signed + "w" * self.is_wide + "p" * self.partial
        unit = "wide" if self.unit is None else self.unit.value
        tile = f"{self.pixels}_k{self.rows}x{self.taps}_s{self.stride}_d{self.dilation}"
        return f"{unit}_{tile}_{flags}_{self.spec.tag}"
