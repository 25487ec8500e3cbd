"""Argument words of the planar convolution, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Arg(enum.IntEnum):
    """Word by word.  Distances are in floats.

    A channel is one plane of the result, or one of its row phases: result row ``row * ROW_PHASES + phase + FIRST_ROW``.
    """

    INPUT = 0
    WEIGHTS = enum.auto()  # [group][channel tile][input channel][kernel row][kernel column][channel, column phase]
    BIAS = enum.auto()  # [group][channel tile][channel, column phase]
    OUTPUT = enum.auto()
    SCRATCH = enum.auto()
    SCRATCH_FLOATS = enum.auto()  # per chunk
    GROUPS = enum.auto()
    GROUP_CHANNELS = enum.auto()  # row phases counted
    CHANNEL_TILES = enum.auto()  # per group
    ROWS = enum.auto()
    WIDTH = enum.auto()
    SEGMENTS = enum.auto()  # stretches per row
    SEGMENT_TILES = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    GROUP_IN = enum.auto()
    KERNEL_ROWS = enum.auto()
    KERNEL_COLUMNS = enum.auto()
    ROW_DILATION = enum.auto()
    COLUMN_DILATION = enum.auto()
    ROW_STRIDE = enum.auto()
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    SPAN = enum.auto()  # pixels a tile reads of one row
    WINDOW_ROW = enum.auto()  # the same in whole vectors: a row of the window in scratch memory
    INPUT_AHEAD = enum.auto()  # how far ahead of a tile's window to fetch input; 0: not at all
    OUT_ROWS = enum.auto()
    OUT_WIDTH = enum.auto()
    ROW_PHASES = enum.auto()
    FIRST_ROW = enum.auto()
    FIRST_COLUMN = enum.auto()


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a planar convolution depends on.

    Attributes:
        channels: channels per tile.
        vectors: vectors of pixels per tile.
        lanes: floats per vector.
        stride: horizontal stride.
        phases: column phases of each channel; 0 for an ordinary convolution, which has no row phases either.
        narrow: rows are shorter than a tile.
    """

    channels: int
    vectors: int
    lanes: int
    stride: int
    phases: int
    narrow: bool
