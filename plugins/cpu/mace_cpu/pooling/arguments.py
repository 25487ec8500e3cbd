"""Argument words of the pooling over channel blocks, apart from its generator so that lowerings need no llvmlite."""

from __future__ import annotations

import enum


class Arg(enum.IntEnum):
    """Word by word: sizes in pixels."""

    SOURCE = 0
    TARGET = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    OUT_ROWS = enum.auto()
    OUT_WIDTH = enum.auto()
    TAP_ROWS = enum.auto()
    TAP_COLUMNS = enum.auto()
    ROW_STRIDE = enum.auto()
    COLUMN_STRIDE = enum.auto()
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    ROW_DILATION = enum.auto()
    COLUMN_DILATION = enum.auto()
    PAD_BOTTOM = enum.auto()
    PAD_RIGHT = enum.auto()
    COUNTS_PADDING = enum.auto()  # whether an average divides by what lies in the padding too
    CHANNELS = enum.auto()  # of the input, where they lie last; of no use where they lie in blocks
