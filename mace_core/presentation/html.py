"""HTML for notebooks.  Everything that comes from a model, a file or a plugin is text and is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape as _escape
from typing import TYPE_CHECKING

from mace_core.errors import printable

if TYPE_CHECKING:
    from mace_core.presentation.table import Table

_CELL = "padding:2px 10px;vertical-align:top;text-align:{}"


def escape(text: object) -> str:
    """Text as HTML, without what browsers and terminals would take for more than text."""
    return _escape(printable(str(text)), quote=True)


def heading(text: str) -> str:
    return f'<div style="font-weight:bold;margin:4px 0">{escape(text)}</div>'


def line(text: str) -> str:
    return f"<div>{escape(text)}</div>"


def folded(summary: str, content: str) -> str:
    """``content`` (HTML) that a click on ``summary`` (text) shows."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def page(parts: Iterable[str]) -> str:
    """The parts (HTML) as one fragment."""
    return f'<div class="mace" style="font-size:90%">{"".join(part for part in parts if part)}</div>'


def table_html(table: Table) -> str:
    """A table as a fragment; columns of figures are aligned at the right and never broken."""
    from mace_core.presentation.columns import ColumnKind

    used = [place for place in range(len(table.columns)) if not table.rows or any(row[place] for row in table.rows)]
    styles = {}
    for place in used:
        is_number = table.columns[place].kind is ColumnKind.NUMBER
        styles[place] = _CELL.format("right;white-space:nowrap" if is_number else "left")
    head = "".join(f'<th style="{styles[p]}">{escape(table.columns[p].name)}</th>' for p in used)
    body = "".join(
        "<tr>" + "".join(f'<td style="{styles[p]}">{escape(row[p])}</td>' for p in used) + "</tr>" for row in table.rows
    )
    parts = [heading(table.title)] if table.title else []
    parts.append(f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
    if table.left_out:
        parts.append(line(table.more))
    return "".join(parts)
