"""Entry of the `mace` command: Ctrl-C and lost streams are dealt with before anything heavy is imported.

Nothing here but the standard library's small modules; the command line itself is `mace_core.cli.app`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from mace_core.cli.streams import check_output

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


OUTPUT_IS_CLOSED = "standard output is closed: send it to /dev/null if it is not wanted"

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a process to end, beside Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if __name__ != "__main__" and arguments is not None:  # called from Python, whose signals and streams are not ours
        from mace_core.cli.app import run_command_line

        return run_command_line(arguments)
    _stop_at_once()
    is_closed = fill_closed_streams()
    try:
        from mace_core.cli.app import run_command_line

        if is_closed:
            sys.stderr.write(f"mace: error: {OUTPUT_IS_CLOSED}\n")
            return 1
        ended = Endings()
        return ended.code_of(run_command_line(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # while the command line was ending
        return INTERRUPTED
    finally:
        _stop_at_once()


class Endings:
    """From here on, what is running may clean up: signals that ask the process to end are heard as Ctrl-C is."""

    def __init__(self) -> None:
        self._number = int(signal.SIGINT)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        raise KeyboardInterrupt

    def code_of(self, code: int) -> int:
        """The exit code, by which a script sees which signal it was."""
        return 128 + self._number if code == INTERRUPTED else code


def _stop_at_once() -> None:
    """Let Ctrl-C end the process without a traceback, while there is nothing to clean up."""

    def stop(number: int, frame: FrameType | None) -> None:
        os.write(2, b"mace: stopped\n")
        os._exit(INTERRUPTED)

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a background job of a shell ignores it
        signal.signal(signal.SIGINT, stop)
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def fill_closed_streams() -> bool:
    """Give standard streams that are closed a place that takes nothing, or files opened later would become them.

    Returns:
        Whether standard output was closed.
    """
    is_closed = sys.stdout is None
    for number, mode in enumerate(("r", "w", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        name = ("stdin", "stdout", "stderr")[number]
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115 - for good
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # names of files may be anything
    check_output()
    return is_closed


if __name__ == "__main__":
    sys.exit(main())
