"""Tables for people: as text that fits a terminal, or of any width for a file, and as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.errors import printable
from mace_core.presentation.columns import ColumnKind

ROWS_SHOWN = 10
"""Rows of a long table unless all are asked for."""

_NARROWEST_TEXT = 16
_NARROWEST_KEY = 24
"""Of a column that always stays: a name that is cut cannot be typed."""
_NARROWEST_PROSE = 24
_GAP = 2


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: its heading.
        rank: where the table is too wide, columns of the highest rank are left out first; those of rank 0 stay.
        kind: what may be done to its cells.
        least: columns of text that it keeps, where it holds as much; others are left out first.
    """

    name: str
    rank: int = 0
    kind: ColumnKind = ColumnKind.TEXT
    least: int = 0


def number(name: str, rank: int = 0) -> Column:
    """A column of figures: right-aligned, never broken or shortened."""
    return Column(name, rank, ColumnKind.NUMBER)


def prose(name: str, rank: int = 0, *, least: int = 0) -> Column:
    """A column of sentences."""
    return Column(name, rank, ColumnKind.PROSE, least)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under named columns.

    Attributes:
        columns: what stands in each place of a row.
        rows: the cells.
        title: stands above, "" for none.
        left_out: rows there are besides these.
        hint: how all rows are got.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""
    left_out: int = 0
    hint: str = ""

    def top(self, count: int = ROWS_SHOWN, *, hint: str = "") -> Table:
        """The first ``count`` rows; ``hint`` says how the others are got."""
        more = len(self.rows) - count
        return self if more <= 0 else Table(self.columns, self.rows[:count], self.title, self.left_out + more, hint)

    def text(self, width: int | None = None) -> str:
        """The table in lines of at most ``width`` columns; None: as wide as it is, one line for each row.

        Columns that say nothing are left out.  Where the rest does not fit, names are shortened and sentences folded;
        where that is not enough, whole columns go, which a line below tells.
        """
        cells = [[_one_line(cell) for cell in row] for row in self.rows]
        used = [place for place in range(len(self.columns)) if not cells or any(row[place] for row in cells)]
        widths, dropped = _fit(
            [self.columns[place] for place in used], [[row[p] for p in used] for row in cells], width
        )
        kept = [place for place in used if self.columns[place].name not in dropped]
        lines = fold(self.title, width) if self.title else []
        lines += _render([self.columns[place] for place in kept], [[row[p] for p in kept] for row in cells], widths)
        notes = [f"not shown for lack of room: {', '.join(dropped)}"] if dropped else []
        if self.left_out:
            notes.append(self.more)
        for note in notes:
            lines += fold(note, width)
        return "\n".join(lines)

    @property
    def more(self) -> str:
        """That rows are left out, and how they are got; "" where none are."""
        if not self.left_out:
            return ""
        return f"… and {self.left_out} more{f' ({self.hint})' if self.hint else ''}"

    def html(self) -> str:
        """The table as an HTML fragment; all text in it is escaped."""
        from mace_core.presentation.html import table_html

        return table_html(self)


def _one_line(cell: str) -> str:
    shown = printable(cell)
    return shown if "\n" not in shown else shown.replace("\n", "\\n")


def _cell_width(text: str) -> int:
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)


def _fit(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> tuple[list[int], tuple[str, ...]]:
    """Widths of the columns that stay, in order, and the names of those that do not."""
    natural = [
        max([_cell_width(column.name), *(_cell_width(row[place]) for row in rows)])
        for place, column in enumerate(columns)
    ]
    if width is None:
        return natural, ()
    narrowest = [_narrowest(column, full) for column, full in zip(columns, natural, strict=True)]
    kept = list(range(len(columns)))
    dropped: list[int] = []
    while len(kept) > 1 and sum(narrowest[p] for p in kept) + _GAP * (len(kept) - 1) > width:
        worst = max(kept, key=lambda place: (columns[place].rank, place))
        if columns[worst].rank == 0:
            break
        kept.remove(worst)
        dropped.append(worst)
    room = width - _GAP * (len(kept) - 1)
    widths = _share(room, [narrowest[p] for p in kept], [natural[p] for p in kept])
    if sum(widths) > room:  # even what must stay is too wide: names give way, figures never
        for place in sorted(range(len(kept)), key=lambda p: -widths[p]):
            if columns[kept[place]].kind is not ColumnKind.NUMBER:
                widths[place] = max(4, widths[place] - max(0, sum(widths) - room))
    return widths, tuple(columns[place].name for place in sorted(dropped))


def _narrowest(column: Column, natural: int) -> int:
    match column.kind:
        case ColumnKind.NUMBER:
            return natural
        case ColumnKind.TEXT:
            return min(natural, max(column.least, _NARROWEST_TEXT if column.rank else _NARROWEST_KEY))
        case ColumnKind.PROSE:
            return min(natural, max(column.least, _NARROWEST_PROSE))


def _share(room: int, narrowest: Sequence[int], natural: Sequence[int]) -> list[int]:
    """Widths between the two that fill ``room``, evenly: what a column does not need goes to the others."""
    widths = list(narrowest)
    while (spare := room - sum(widths)) > 0:
        wanting = [place for place in range(len(widths)) if widths[place] < natural[place]]
        if not wanting:
            break
        each = max(1, spare // len(wanting))
        for place in wanting:
            widths[place] += min(each, natural[place] - widths[place], max(0, room - sum(widths)))
    return widths


def _render(columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    headings = [_align(_short(c.name, w), w, c.kind) for c, w in zip(columns, widths, strict=True)]
    gap = " " * _GAP
    lines = [gap.join(headings).rstrip(), gap.join("─" * min(width, _LONGEST_RULE) for width in widths)]
    for row in rows:
        parts = [
            fold(cell, width) if column.kind is ColumnKind.PROSE else [_short(cell, width)]
            for cell, column, width in zip(row, columns, widths, strict=True)
        ]
        for line_number in range(max(map(len, parts), default=0)):
            cells = [part[line_number] if line_number < len(part) else "" for part in parts]
            line = [_align(cell, width, c.kind) for cell, width, c in zip(cells, widths, columns, strict=True)]
            lines.append(gap.join(line).rstrip())
    return lines


_LONGEST_RULE = 60
"""Of the line below a heading: a sentence in a file may be very long."""


def _align(text: str, width: int, kind: ColumnKind) -> str:
    padding = " " * (width - _cell_width(text))
    return padding + text if kind is ColumnKind.NUMBER else text + padding


def _short(text: str, width: int) -> str:
    """``text`` without its middle where it is wider than ``width``."""
    if _cell_width(text) <= width:
        return text
    from rich.cells import set_cell_size

    if width < 2:
        return set_cell_size(text, width)
    head = (width - 1) // 2
    tail = set_cell_size(text[::-1], width - 1 - head)[::-1]
    return f"{set_cell_size(text, head)}…{tail}"


def fold(text: str, width: int | None, *, indent: str = "") -> list[str]:
    """A sentence in lines of at most ``width`` columns (None: one line); all but the first start with ``indent``."""
    text = _one_line(text)
    if width is None or _cell_width(text) <= width:
        return [text]
    from rich.console import Console
    from rich.text import Text

    room = max(1, width - len(indent))
    first, *others = Text(text).wrap(Console(width=room), room)
    return [first.plain.rstrip(), *(f"{indent}{line.plain.rstrip()}" for line in others)]
