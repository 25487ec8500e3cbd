"""How wide standard output is."""

from __future__ import annotations

import shutil
import sys

NARROWEST = 20


def terminal_width() -> int | None:
    """Columns of the terminal that standard output goes to; None for a file or a pipe."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(NARROWEST, shutil.get_terminal_size().columns)
