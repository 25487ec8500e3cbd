"""Exit codes of the `mace` command (docs/users.md lists them), and which one an error gets."""

from __future__ import annotations

import typer

from mace_core.errors import ModelFileError, UsageError

OK = 0
FAILURE = 1
"""The model is not valid, or a device, a run or a file that was to be written failed."""
USAGE = 2
"""The command line is wrong: an option, a name, an input; or a file is not there or may not be read."""
VERDICT = 3
"""The command did its work and found what it looks for: results that differ, an installation that is broken."""
INTERRUPTED = 130
"""Stopped by Ctrl-C: 128 and the number of the signal, as shells have it."""

CLICK_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
"""Base of typer's own errors, found this way because typer has no public name for it."""


def exit_code_of(error: BaseException) -> int:
    """The exit code for an error that ends the command."""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED
    if isinstance(error, UsageError | ModelFileError | CLICK_ERROR):
        return USAGE
    return FAILURE
