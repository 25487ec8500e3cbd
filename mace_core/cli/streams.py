"""Standard output that says so when it takes nothing any more, apart from every other error of the system."""

from __future__ import annotations

import io
import os
import sys


class OutputLostError(Exception):
    """Standard output cannot be written: its reader has left, or the disk is full.

    Attributes:
        cause: what the system said.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class CheckedOutput(io.TextIOWrapper):
    """A text stream whose failures are `OutputLostError`."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLostError(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLostError(error) from error


def check_output() -> None:
    """Put a `CheckedOutput` in the place of standard output; what its encoding has no letters for is escaped."""
    before = sys.stdout
    sys.stdout = CheckedOutput(
        before.buffer, encoding=before.encoding, errors="backslashreplace", line_buffering=bool(before.line_buffering)
    )


def give_up_output() -> None:
    """Let what is still to be written go nowhere, or Python complains when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
