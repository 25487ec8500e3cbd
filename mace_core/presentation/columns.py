"""What the columns of a table hold."""

from __future__ import annotations

import enum


class ColumnKind(enum.Enum):
    """How the cells of a column may be made to fit."""

    TEXT = "text"  # shortened in the middle: names differ at their ends
    NUMBER = "number"  # never touched
    PROSE = "prose"  # folded between words
