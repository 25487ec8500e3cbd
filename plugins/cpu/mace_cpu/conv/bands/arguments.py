"""Argument words of two steps computed band by band, apart from their generator so that lowerings need no llvmlite."""

from __future__ import annotations

import enum

MOST_WORDS = 96
"""Argument words of either step."""

WINDOW_INPUT = 0
"""Which word of the step that reads the convolution's result is its address; each band gives it another one."""


class Arg(enum.IntEnum):
    """Word by word.  The words of the convolution follow, then those of the step that reads its result."""

    SCRATCH = 0
    SCRATCH_BYTES = enum.auto()  # per chunk
    FIRST = enum.auto()  # the convolution
    SECOND = enum.auto()  # what reads its result
    FIRST_WORDS = enum.auto()
    SECOND_WORDS = enum.auto()
    BANDS = enum.auto()  # per image and group of tiles
    BAND_ROWS = enum.auto()  # rows of the last result
    GROUPS = enum.auto()  # of channel tiles
    GROUP_TILES = enum.auto()
    TILES = enum.auto()  # of output channels of the convolution
    TILE_BLOCKS = enum.auto()
    TILE_PIXELS = enum.auto()
    FIRST_BLOCK = enum.auto()  # the convolution's first channel block among all
    ALL_BLOCKS = enum.auto()
    HELD_ROWS = enum.auto()  # rows of the convolution's result that there is room for, per block
    ROWS = enum.auto()  # of the convolution's result
    WIDTH = enum.auto()
    OUT_ROWS = enum.auto()  # of the last result
    STRIDE = enum.auto()  # of windows, from row to row
    PAD = enum.auto()
    SPAN = enum.auto()  # rows from the first to the last of a window
