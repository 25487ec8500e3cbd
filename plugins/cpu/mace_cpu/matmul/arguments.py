"""Argument words of the matrix product, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.precision import PairUnit

GROUP, PICKS = 4, 2
"""Of each four steps, two have weights, where columns have 2:4 patterns."""

BLOCK_GROUPS = 8
"""Groups whose indices, two bits for each weight, fill a word."""

BLOCK_WORDS = 1 + PICKS * BLOCK_GROUPS
"""Of a column: the indices and the weights."""


class Arg(enum.IntEnum):
    """Word by word.  Distances are in floats; a panel is a tile's columns of the right operand.

    The right operand is packed, [matrix][panel][step][columns of the tile], or read where it lies,
    [matrix][step][column].
    """

    LEFT = 0
    RIGHT = enum.auto()
    BIAS = enum.auto()  # from the first column of this step on
    OUTPUT = enum.auto()
    LEFT_OFFSETS = enum.auto()  # table: where the left matrix of each product starts
    RIGHT_OFFSETS = enum.auto()  # table: where the right matrix of each product starts
    OUT_MATRIX = enum.auto()  # from product to product
    UNITS = enum.auto()  # per product
    ROWS = enum.auto()
    STEPS = enum.auto()  # of a panel: the dimension summed over, or what is kept of it
    COLUMNS = enum.auto()  # of the whole result
    FIRST_COLUMN = enum.auto()  # where this step's panels begin
    PANELS = enum.auto()
    LAST_PANEL = enum.auto()  # the column, counted from the first one, beyond which no panel may begin
    RIGHT_STEP = enum.auto()  # from step to step
    RIGHT_COLUMN = enum.auto()  # from panel to panel, per column
    LEFT_STRIDE = enum.auto()  # from row to row, or from step to step if the left operand is transposed
    OUT_ROW = enum.auto()
    SEGMENT = enum.auto()  # rows per unit
    SEGMENTS = enum.auto()
    BAND = enum.auto()  # segments per band
    TILE_FETCH = enum.auto()  # how much of the next panel to fetch during each tile; 0: nothing
    STEPS_FETCH = enum.auto()  # how much of that every few steps
    KEPT = enum.auto()  # table of int32: which step of the left operand each row of a panel meets, if not one by one


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a matrix product depends on.

    Attributes:
        rows, vectors: size of the tile.
        lanes: floats per vector.
        transposed_left: the left operand lies as (steps, rows).
        unroll: steps per turn of the innermost loop.
        unit: what multiplies pairs of bfloat16, in words that count as floats everywhere else; None: float32.
        kept: only some steps are multiplied, those in a table.
        picks: of each four steps two are multiplied, which ones differs from column to column.
    """

    rows: int
    vectors: int
    lanes: int
    transposed_left: bool
    unroll: int
    unit: PairUnit | None = None
    kept: bool = False
    picks: bool = False
