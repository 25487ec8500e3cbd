"""Argument words of the dense convolution of bytes, apart from its generator, which needs llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.quads import QuadUnit


class Arg(enum.IntEnum):
    """Word by word.  Distances are in bytes; of the result in elements."""

    INPUT = 0
    WEIGHTS = enum.auto()  # [group][channel tile][kernel row][tap][quad][column][4]
    BIAS = enum.auto()  # int32 [group][channel tile][column]: what sums start from
    LOW_BIAS = enum.auto()  # the same for the sums of low bytes, where numbers are wide
    SCALES = enum.auto()  # float32, the same
    FLOAT_BIAS = enum.auto()  # float32, the same, where there is one
    WEIGHT_ZEROS = enum.auto()  # int32, the same, where there are some
    OUTPUT = enum.auto()
    SCRATCH = enum.auto()
    SCRATCH_BYTES = enum.auto()  # per chunk
    GROUPS = enum.auto()
    BANDS = enum.auto()  # per image
    PARTS = enum.auto()  # of the channel tiles
    PART_TILES = enum.auto()
    TILES = enum.auto()  # of channels, per group
    TILE_WEIGHTS = enum.auto()
    TILE_FETCH = enum.auto()  # how much of the next tile's weights to fetch during each tile, in floats
    STEPS_FETCH = enum.auto()  # how much of that every few steps
    BAND_PIXELS = enum.auto()
    PIXELS = enum.auto()  # of an output image
    OUT_WIDTH = enum.auto()
    OUT_CHANNELS = enum.auto()
    OUT_IMAGE = enum.auto()  # from image to image of the result, in pixels
    OUT_ORIGIN = enum.auto()  # the first pixel; of a lattice of the result
    OUT_ROW = enum.auto()  # from row to row of a lattice, in pixels
    OUT_PIXEL = enum.auto()  # from pixel to pixel of a lattice
    GROUP_OUT = enum.auto()  # channels
    IMAGE = enum.auto()  # from image to image
    GROUP_IN = enum.auto()  # from group to group: its channels
    PIXEL_STEP = enum.auto()  # from window to window along a row
    ROW_STEP = enum.auto()  # from window to window of the next row
    KERNEL_ROWS = enum.auto()
    KERNEL_ROW = enum.auto()  # from kernel row to kernel row
    TAPS = enum.auto()  # runs per kernel row
    TAP_STEP = enum.auto()
    QUADS = enum.auto()  # whole ones of a run
    RUN_WEIGHTS = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    IN_PIXEL = enum.auto()
    ROW_STRIDE = enum.auto()
    ROW_SPAN = enum.auto()  # image rows that a window reaches over
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    COPY_WIDTH = enum.auto()  # pixels of a copied row
    # The byte around the image, as it is multiplied, of wide numbers the low one, then the high one; or where it lies,
    # as the input has it.
    PADDING = enum.auto()
    GATHERED = enum.auto()  # where in a chunk's scratch memory the bytes that are kept are moved
    GATHERS = enum.auto()  # per run
    INDICES = enum.auto()  # [group][channel tile][kernel row][tap][gather][byte of a window], see `KeptBytes`
    PLACES = enum.auto()  # int32, [group][channel tile][kernel row][tap][gather][2]
    PLANE = enum.auto()  # from the high bytes of a copy to the low ones


class Copies(enum.Enum):
    """Whether a band of the image is copied, its borders filled up, before it is read."""

    NONE = "n"
    PLAIN = "c"
    FLIPPED = "x"  # the highest bit of each byte changed
    SPLIT = "w"  # wide numbers: their high bytes, then their low ones


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a dense convolution of bytes depends on.

    Attributes:
        rows: output pixels per tile, twice as many rows where numbers are wide.
        vectors: of channels per tile.
        unit: what multiplies.
        is_signed: the bytes that are multiplied are signed.
        tail: bytes of a run beyond whole quads.
        copies: whether the image is copied.
        flips: bits of wide numbers that are changed before they are split.
        gathers: the copy takes some channels of each pixel, those of a group.
        linear: windows follow each other at one distance, over all rows.
        single: a kernel has one run.
        short: runs are so short that nothing is fetched ahead during one.
        partial: the last channel tile is not full.
        weight_zeros: weights have zero points: a vector of ones follows those of the weights, and sums the input up.
        lattice: the pixels are a lattice of those of the result.
        unroll: steps per turn of the innermost loop.
        spec: what becomes of the sums.
        window, stored: bytes that a permutation takes and stores, where only bytes with weights are multiplied; else 0.
        row_bytes: then from row to row of these.
        opened: the run brings the byte around the image.
    """

    rows: int
    vectors: int
    unit: QuadUnit
    is_signed: bool
    tail: int
    copies: Copies
    flips: int
    gathers: bool
    linear: bool
    single: bool
    short: bool
    partial: bool
    weight_zeros: bool
    lattice: bool
    unroll: int
    spec: Requantization
    window: int = 0
    stored: int = 0
    row_bytes: int = 0
    opened: bool = False

    @property
    def planes(self) -> int:
        """Bytes of a number of the image, each of which has its own sums."""
        return 2 if self.copies is Copies.SPLIT else 1

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        flags = "".join(
            letter
            for letter, is_set in (
                ("s", self.is_signed),
                ("g", self.gathers),
                ("l", self.linear),
                ("o", self.single),
                ("h", self.short),
                ("p", self.partial),
                ("z", self.weight_zeros),
                ("y", self.lattice),
                ("d", self.opened),
            )
            if is_set
        )
        tile = f"{self.rows}x{self.vectors}u{self.unroll}t{self.tail}"
        if self.window:
            tile += f"k{self.window}w{self.stored}r{self.row_bytes}"
        tile += f"x{self.flips:04x}" * (self.planes > 1)
        return f"{self.unit.value}_{tile}_{self.copies.value}{flags}_{self.spec.tag}"
