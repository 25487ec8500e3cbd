"""How much a command tells on standard error beside its findings."""

from __future__ import annotations

import logging
import sys

_ROOT = logging.getLogger("mace")
"""Every logger of the framework is this one or below it."""


def set_up_logging(level: int) -> None:
    """Messages of the framework's loggers from this level on, one line each on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mace: %(levelname)s: %(message)s"))
    _ROOT.handlers[:] = [handler]
    _ROOT.setLevel(level)
    _ROOT.propagate = False


def level_of(*, verbose: bool, quiet: bool, debug: bool) -> int:
    """The logging level that the options ask for."""
    if debug:
        return logging.DEBUG
    if verbose:
        return logging.INFO
    return logging.ERROR if quiet else logging.WARNING


def raise_verbosity(*, verbose: bool, quiet: bool, debug: bool) -> None:
    """Take the options of a sub-command into account: what was asked for before it stays asked for."""
    if verbose or quiet or debug:
        level = level_of(verbose=verbose, quiet=quiet, debug=debug)
        now = _ROOT.level
        if (level == logging.ERROR and now >= logging.WARNING) or level < now:
            set_up_logging(level)


def is_quiet() -> bool:
    """Whether notes and progress are unwanted."""
    return _ROOT.level >= logging.ERROR


def note(text: str) -> None:
    """Something the user should know that is not an error, on standard error."""
    if not is_quiet():
        sys.stderr.write(f"mace: note: {text}\n")
