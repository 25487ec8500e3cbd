"""What the user is told of an error that ends a program."""

from __future__ import annotations

import typer

from mace_core.cli.exit_codes import CLICK_ERROR
from mace_core.errors import MaceError, advice_for


def message_of(error: BaseException, *, defect: str = "run again with --debug for the details") -> str:
    """One sentence.

    Args:
        error: what ended the program.
        defect: what to do about an error that no input may cause.
    """
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "stopped"
    if isinstance(error, CLICK_ERROR):
        return _click_message(error)
    if isinstance(error, MaceError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    if isinstance(error, OSError) and error.filename is not None:
        advice = advice_for(error)
        return f"{error.strerror}: '{error.filename}'" + (f"; {advice}" if advice else "")
    if isinstance(error, OSError) and error.errno is not None:
        advice = advice_for(error)
        return f"the system refuses: {error.strerror or error}" + (f"; {advice}" if advice else "")
    return f"{type(error).__name__}: {error} - this is a defect; {defect}"


def _click_message(error: BaseException) -> str:
    """Typer's own message with the way to more help."""
    message = str(getattr(error, "format_message", error.__str__)())
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "mace")
    return f"{message} (see '{path} --help')" if message else f"see '{path} --help'"
