"""Argument words of Winograd's convolution, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

TAPS = 3


class Arg(enum.IntEnum):
    """Word by word.  Distances are in floats; a patch is a square of results computed together."""

    INPUT = 0
    WEIGHTS = enum.auto()  # [channel tile][point][channel][columns]
    BIAS = enum.auto()  # [channel tile][columns]
    OUTPUT = enum.auto()
    SCRATCH = enum.auto()
    SCRATCH_FLOATS = enum.auto()  # per chunk: the transformed input of a band, then products of a channel tile
    PRODUCTS_AT = enum.auto()  # where in it the products begin
    INPUT_POINT = enum.auto()  # from point to point of the transformed input
    PRODUCT_POINT = enum.auto()  # from point to point of the products
    OC_TILES = enum.auto()
    PARTS = enum.auto()  # into which the channel tiles of a band are divided
    BAND = enum.auto()  # patches per band
    PATCHES = enum.auto()  # of all images
    PATCH_ROWS = enum.auto()
    PATCH_COLUMNS = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    IN_BLOCKS = enum.auto()
    IN_CHANNELS = enum.auto()  # that are multiplied
    LAST_RUN = enum.auto()  # channels in the last block
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    OUT_ROWS = enum.auto()
    OUT_WIDTH = enum.auto()
    OUT_BLOCKS = enum.auto()
    FIRST_OUT_BLOCK = enum.auto()  # where this step begins
    TILE_FETCH = enum.auto()  # how much of the next point's weights to fetch during each tile
    STEPS_FETCH = enum.auto()  # how much of that every few steps
    KEPT = enum.auto()  # table of int32, [channel tile][channel]: where the channels lie, if not all are multiplied


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code depends on.

    Attributes:
        results: of a patch, along each side.
        rows: patches per tile of the matrix product.
        blocks: output channel blocks per tile.
        block: channels per block.
        kept: each channel tile multiplies only some input channels, those in a table.
    """

    results: int
    rows: int
    blocks: int
    block: int
    kept: bool = False

    @property
    def side(self) -> int:
        """Input pixels, and points of the transform, along each side of a patch."""
        return self.results + TAPS - 1
