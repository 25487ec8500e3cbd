"""What lowerings and generators of products with packed weights share: the packed form, argument words, variants.

A panel is a stretch of columns, ``VECTORS`` vectors of them.  Codes lie as [panel][group][vector][lane]: a lane is a
32-bit word with the codes of a group of neighboring steps of one column.  Scales and zero points lie as
[panel][block][column of the panel].
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

VECTORS = 4
"""Vectors of columns side by side in a panel."""

WORD_BITS = 32
QUAD = 4
"""Bytes of a word; those with one number in the same field are multiplied by a quad dot at once."""


@dataclass(frozen=True, slots=True)
class Form:
    """How numbers are coded.

    Attributes:
        bits: of a code: 2, 4 or 8.
        kind: "" for whole numbers, whose code is the number plus half of the range; else the label of a float type.
        zeros: "" where there are no zero points, "int8" or "float32": what is subtracted from the numbers.
    """

    bits: int
    kind: str = ""
    zeros: str = ""

    @property
    def group(self) -> int:
        """Steps in a word."""
        return WORD_BITS // self.bits

    @property
    def middle(self) -> int:
        """The code of zero, of whole numbers."""
        return 1 << (self.bits - 1)

    @property
    def tag(self) -> str:
        """For symbols."""
        return f"{self.kind or f'int{self.bits}'}{f'_z{self.zeros}' if self.zeros else ''}"

    def place(self, step: int) -> int:
        """How far the code of a group's step is shifted in its word: one byte after the other has a first field."""
        field, byte = divmod(step, QUAD)
        return 8 * byte + self.bits * field


class RowArg(enum.IntEnum):
    """Words of the kernel for a single row; a unit is a panel.  Then follow the operands of the epilogue."""

    LEFT = 0
    CODES = enum.auto()
    SCALES = enum.auto()
    ZEROS = enum.auto()  # or 0
    OUTPUT = enum.auto()
    GROUPS = enum.auto()  # in all
    BLOCK = enum.auto()  # groups that share a scale
    BLOCKS = enum.auto()
    COLUMNS = enum.auto()


class RowsArg(enum.IntEnum):
    """Words of the kernel for several rows; a unit is a segment of rows times a panel.

    Then follow the operands of the epilogue.
    """

    LEFT = 0
    CODES = enum.auto()
    SCALES = enum.auto()
    ZEROS = enum.auto()  # or 0
    OUTPUT = enum.auto()
    SCRATCH = enum.auto()  # for each chunk SCRATCH_STEP floats: unpacked steps, then the sums of each tile
    SCRATCH_STEP = enum.auto()
    GROUPS = enum.auto()  # in all
    BLOCK = enum.auto()  # groups that share a scale
    BLOCKS = enum.auto()
    PIECE = enum.auto()  # groups that are unpacked at a time
    ROWS = enum.auto()
    COLUMNS = enum.auto()
    LEFT_STRIDE = enum.auto()  # floats from row to row
    SEGMENT = enum.auto()  # rows per unit
    PANELS = enum.auto()


class RoundedArg(enum.IntEnum):
    """Words of the kernel for rows rounded to 8 bits; a unit is a segment of rows times a panel.

    Then follow the operands of the epilogue.
    """

    LEFT = 0  # signed bytes
    LEFT_SCALES = enum.auto()  # float32 (rows, blocks)
    LEFT_SUMS = enum.auto()  # float32 (rows, blocks): of the bytes of a block
    CODES = enum.auto()
    SCALES = enum.auto()
    ZEROS = enum.auto()  # or 0
    OUTPUT = enum.auto()
    GROUPS = enum.auto()  # in all
    BLOCK = enum.auto()  # groups that share a scale
    BLOCKS = enum.auto()
    ROWS = enum.auto()
    COLUMNS = enum.auto()
    LEFT_STRIDE = enum.auto()  # bytes from row to row
    SEGMENT = enum.auto()  # rows per unit
    PANELS = enum.auto()


@dataclass(frozen=True, slots=True)
class RowsVariant:
    """What the code for several rows depends on.

    Attributes:
        form: of the weights.
        lanes: floats per vector.
        rows, vectors: size of the register tile; ``vectors`` divides `VECTORS`.
        unroll: steps per turn of the innermost loop.
    """

    form: Form
    lanes: int
    rows: int
    vectors: int
    unroll: int
