"""What sub-commands print: tables on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mace_core.cli.verbosity import is_quiet
from mace_core.presentation.sizes import format_bytes as format_bytes

if TYPE_CHECKING:
    from rich.console import Console

WIDTH_WHEN_PIPED = 200
"""Columns of a table that goes to a file or a pipe: wide enough not to fold reasons."""


def console() -> Console:
    """Standard output, with nothing in the text interpreted (names may hold brackets)."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_WHEN_PIPED
    return Console(markup=False, emoji=False, highlight=False, width=width, soft_wrap=False)


def print_line(text: str = "") -> None:
    """One line on standard output, as it is."""
    sys.stdout.write(text + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()
) -> None:
    """A table; the columns at the indices ``numbers`` are right-aligned."""
    from rich import box
    from rich.table import Table

    if title:
        print_line(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    screen = console()
    with screen.capture() as text:
        screen.print(table)
    for line in text.get().splitlines():  # without the padding, which is noise in files
        print_line(line.rstrip())


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """A spinner on standard error while the body runs, where that is a terminal.  It becomes a bar when work that
    reports how far it has come (compiling kernels) takes over a second."""
    if not sys.stderr.isatty() or is_quiet():
        yield
        return
    from mace_core.cli.progress_bar import progress_bar

    with progress_bar(text):
        yield
