"""Argument words of the generated resize kernel, in a module of their own so that lowerings need no llvmlite."""

from __future__ import annotations

import enum


class Arg(enum.IntEnum):
    """Word by word; sizes, strides and starts of tables per axis follow, then the operands of the epilogue."""

    SOURCE = 0
    TARGET = enum.auto()
    TABLES = enum.auto()  # int32, the source index of each target index, axis after axis
    INNER = enum.auto()  # floats for each index of the last axis, a multiple of a block
    ROWS_PER_BLOCK = enum.auto()  # units with the same channels
    BLOCKS = enum.auto()  # of channels
