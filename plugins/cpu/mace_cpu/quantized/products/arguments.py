"""Argument words of the product of bytes, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.quads import QuadUnit

BLOCK_STEPS, BLOCK_ROWS = 32, 5
"""Steps, and rows of words, of a block where columns have 2:4 patterns: the places, then four quads."""


class Arg(enum.IntEnum):
    """Word by word; behind them the words of the requantization, then the operands of the epilogue.

    Distances are in bytes, of the result in elements.  Numbers per column fill whole panels.
    """

    LEFT = 0
    RIGHT = enum.auto()  # [matrix][panel][quad][column][4]
    STARTS = enum.auto()  # int32 per column: what sums start from
    ROW_SUMS = enum.auto()  # int32 per row of the left operand, or 0
    COLUMN_ZEROS = enum.auto()  # int32 per column: what the sum of the row is multiplied by and subtracted, or 0
    SCALES = enum.auto()  # float32 per column, or 0
    FLOAT_BIAS = enum.auto()  # float32 per column, or 0
    OUTPUT = enum.auto()
    LEFT_OFFSETS = enum.auto()  # table: where the left matrix of each product starts
    LEFT_NUMBERS = enum.auto()  # table: which of the left matrices it is
    RIGHT_NUMBERS = enum.auto()  # table: which of the right matrices each product has
    RIGHT_MATRIX = enum.auto()  # from matrix to matrix
    START_MATRIX = enum.auto()  # int32 from matrix to matrix
    OUT_MATRIX = enum.auto()
    UNITS = enum.auto()  # per product
    SEGMENTS = enum.auto()
    SEGMENT = enum.auto()  # rows per unit
    ROWS = enum.auto()
    COLUMNS = enum.auto()
    QUADS = enum.auto()  # whole ones of a row; for tile registers, in whole rows of theirs
    REST = enum.auto()  # bytes of a row beyond these, for tile registers
    PANEL_BYTES = enum.auto()
    LEFT_STRIDE = enum.auto()  # from row to row
    SCRATCH = enum.auto()  # where the bytes that are kept are moved, or 0
    SCRATCH_BYTES = enum.auto()  # per chunk
    PANELS = enum.auto()  # per matrix
    GATHERS = enum.auto()  # per row of a panel
    INDICES = enum.auto()  # [matrix][panel][gather][byte of a window], see `KeptBytes`
    PLACES = enum.auto()  # int32, [matrix][panel][gather][2]


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a product of bytes depends on.

    Attributes:
        rows, vectors: size of the tile.
        unit: what multiplies.
        is_signed: the left operand is.
        tail: bytes of a row beyond whole quads; for tile registers, whether there are any beyond whole rows of theirs.
        subtracts: zero points of columns times sums of rows are subtracted.
        partial: the last panel is not full.
        spec: what becomes of the sums.
        window, stored: bytes that a permutation takes and stores, where only bytes with weights are multiplied; else 0.
        row_bytes: then from row to row of these.
        picks: of each four steps two are multiplied, which ones differs from column to column.
    """

    rows: int
    vectors: int
    unit: QuadUnit
    is_signed: bool
    tail: int
    subtracts: bool
    partial: bool
    spec: Requantization
    window: int = 0
    stored: int = 0
    row_bytes: int = 0
    picks: bool = False

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        flags = "s" * self.is_signed + "z" * self.subtracts + "p" * self.partial
        kept = f"k{self.window}w{self.stored}r{self.row_bytes}" if self.window else "q" * self.picks
        return f"{self.unit.value}_{self.rows}x{self.vectors}t{self.tail}{kept}{flags}_{self.spec.tag}"
