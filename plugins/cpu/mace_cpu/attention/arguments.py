"""Argument words of the attention kernel, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_core.native.kernel_words import Run, WordLayout


class Arg(enum.IntEnum):
    """Word by word; behind them follow the words of each split of the keys, then of the values (see `split_word`).

    Distances are in floats.  A product is one head of one batch entry; tables have an entry for each.
    """

    QUERY = 0
    OUTPUT = enum.auto()
    MASK = enum.auto()  # or 0
    SCRATCH = enum.auto()  # per chunk SCRATCH_STEP floats
    QUERY_STARTS = enum.auto()  # table
    OUTPUT_STARTS = enum.auto()  # table
    MASK_STARTS = enum.auto()  # table, or 0
    UNITS = enum.auto()  # segments per product
    SEGMENT = enum.auto()  # rows per unit
    ROWS = enum.auto()  # queries
    DEPTH = enum.auto()  # elements of a query or key
    KEYS = enum.auto()  # keys, that is values
    COLUMNS = enum.auto()  # elements of a value
    QUERY_STEP = enum.auto()
    OUTPUT_STEP = enum.auto()
    MASK_STEP = enum.auto()
    SCORE_STEP = enum.auto()  # from row to row of the scores in scratch memory
    SCRATCH_STEP = enum.auto()
    SCALE = enum.auto()  # float64 bits


class RowArg(enum.IntEnum):
    """Word by word, of the kernel for single queries, which reads keys and values where they lie.

    Distances are in floats.  A product is one head of one batch entry; tables have an entry for each.
    """

    QUERY = 0
    KEY = enum.auto()
    VALUE = enum.auto()
    OUTPUT = enum.auto()
    MASK = enum.auto()  # or 0
    SCRATCH = enum.auto()  # per chunk SCRATCH_STEP floats
    QUERY_STARTS = enum.auto()  # table
    KEY_STARTS = enum.auto()  # table
    VALUE_STARTS = enum.auto()  # table
    OUTPUT_STARTS = enum.auto()  # table
    MASK_STARTS = enum.auto()  # table, or 0
    DEPTH = enum.auto()  # elements of a query or key
    KEYS = enum.auto()  # keys, that is values
    COLUMNS = enum.auto()  # elements of a value
    KEY_STEP = enum.auto()  # from key to key, whose elements are neighbors
    VALUE_STEP = enum.auto()
    SCRATCH_STEP = enum.auto()
    SCALE = enum.auto()  # float64 bits


class Split(enum.IntEnum):
    """Words of a stretch of columns covered by panels of one width: of keys, one after another, or of a value."""

    AT = 0
    STARTS = enum.auto()  # table
    PANELS = enum.auto()
    FIRST = enum.auto()  # column
    PANEL_STEP = enum.auto()  # from panel to panel
    ROW_STEP = enum.auto()  # from row to row of a panel


def split_word(operand: str, index: int, word: Split) -> str:
    """The name of a word of one split of an operand, "keys" or "values"."""
    return f"{operand}{index}_{word.name.lower()}"


def layout(keys: int, values: int) -> WordLayout:
    """The words of a kernel with so many splits of the keys and of the values."""
    splits = [(operand, index) for operand, count in (("keys", keys), ("values", values)) for index in range(count)]
    behind = [Run(split_word(operand, index, word)) for operand, index in splits for word in Split]
    return WordLayout((*WordLayout.of(Arg).runs, *behind))


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code depends on.

    Attributes:
        rows: of a tile.
        keys, values: vectors of the tiles that cover the keys and the columns of a value, split by split.
        mask: numbers are added to the scores.
        empty: rows that see no key, all their scores being -inf, give zeros; otherwise NaN.
    """

    rows: int
    keys: tuple[int, ...]
    values: tuple[int, ...]
    mask: bool
    empty: bool = False
