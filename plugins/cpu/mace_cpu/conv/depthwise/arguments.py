"""Argument words of the depthwise convolution, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum


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
