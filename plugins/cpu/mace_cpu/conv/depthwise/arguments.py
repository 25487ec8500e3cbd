"""Argument words of the depthwise convolution, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.precision import HALF_STEPS, PairUnit


class Arg(enum.IntEnum):
    """Word by word.  Distances are in floats; blocks are channel blocks."""

    INPUT = 0
    WEIGHTS = enum.auto()  # [block][kernel row][kernel column][channel of the block]
    BIAS = enum.auto()  # [block][channel of the block]
    OUTPUT = enum.auto()
    BLOCKS = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    OUT_ROWS = enum.auto()
    OUT_WIDTH = enum.auto()
    KERNEL_ROWS = enum.auto()
    ROW_DILATION = enum.auto()
    ROW_STRIDE = enum.auto()
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    PAIR_OUTPUT = enum.auto()  # where the results go as bfloat16, if they do
    SUMS = enum.auto()  # where the sums of each row's pixels go, if they are wanted


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a depthwise convolution depends on.

    Attributes:
        pixels: output pixels per tile.
        block: channels per block.
        taps: width of the kernel.
        stride, dilation: along a row.
        sums: the pixels of each row are summed up as well, for a global pooling.
        reads_pairs: the input is in the PAIRS layout.
        stores: what is stored: "floats", "pairs" of bfloat16, or "both".
        unit: what other steps multiply bfloat16 with; decides how to round to it.
    """

    pixels: int
    block: int
    taps: int
    stride: int
    dilation: int
    sums: bool = False
    reads_pairs: bool = False
    stores: str = "floats"
    unit: PairUnit | None = None

    @property
    def in_halves(self) -> bool:
        """Whether pixels are multiplied as float16, and weights are such."""
        return self.reads_pairs and self.unit is not None and self.unit.takes_halves and self.taps <= HALF_STEPS

    @property
    def tap_floats(self) -> int:
        """From the weights of one tap to those of the next."""
        return self.block // 2 if self.in_halves else self.block

    @property
    def row_floats(self) -> int:
        """From the weights of one kernel row to those of the next."""
        return self.taps * self.tap_floats

    def meetings(self) -> dict[int, list[tuple[int, int]]]:
        """(output pixel, tap) pairs that meet each input pixel of the window, by its distance from the first."""
        found: dict[int, list[tuple[int, int]]] = {}
        for pixel in range(self.pixels):
            for tap in range(self.taps):
                found.setdefault(pixel * self.stride + tap * self.dilation, []).append((pixel, tap))
        return dict(sorted(found.items()))

    @property
    def span(self) -> int:
        """Input pixels from the first to the last one a tile sees."""
        return (self.pixels - 1) * self.stride + (self.taps - 1) * self.dilation + 1
