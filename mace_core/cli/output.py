"""What sub-commands print: lines and tables on standard output, progress on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from mace_core.cli.verbosity import is_quiet
from mace_core.presentation import Table, fold
from mace_core.presentation.sizes import format_bytes as format_bytes
from mace_core.presentation.terminal import terminal_width

ALL_HINT = "--all shows them"


def print_line(text: str = "") -> None:
    """One line on standard output, as it is."""
    sys.stdout.write(text + "\n")


def print_folded(text: str, *, indent: str = "    ") -> None:
    """A sentence: on one line in a file, within the width of a terminal; its other lines start with ``indent``."""
    for line in fold(text, terminal_width(), indent=indent):
        print_line(line)


def print_table(table: Table) -> None:
    """A table that fits the terminal; in a file or a pipe as wide as it is."""
    print_line(table.text(terminal_width()))


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
