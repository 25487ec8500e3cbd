"""`mace_run`: runs a converted model with the flags of MACE's program of that name, and prints what it prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mace_core.cli.error_messages import message_of
from mace_core.cli.exit_codes import FAILURE, INTERRUPTED, OK, exit_code_of
from mace_core.cli.main import OUTPUT_IS_CLOSED, Endings, fill_closed_streams
from mace_core.cli.streams import OutputLostError, give_up_output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; an error is one line on standard error."""
    if arguments is not None:  # called from Python, whose signals and streams are not ours
        return _reported(list(arguments))
    if fill_closed_streams():
        sys.stderr.write(f"mace_run: error: {OUTPUT_IS_CLOSED}\n")
        return FAILURE
    endings = Endings()
    return endings.code_of(_reported(sys.argv[1:]))


def _reported(given: Sequence[str]) -> int:
    try:
        code = _run(given)
        sys.stdout.flush()  # whatever was printed, help as well
        return code
    except OutputLostError as error:
        give_up_output()
        if not isinstance(error.cause, BrokenPipeError):  # else its reader has left, as readers like `head` do
            sys.stderr.write(
                f"mace_run: error: standard output cannot be written: {error.cause.strerror or error.cause}\n"
            )
        return FAILURE
    except (Exception, KeyboardInterrupt) as error:
        code, message = exit_code_of(error), message_of(error, defect="please report it")
        sys.stderr.write(f"mace_run: {message if code == INTERRUPTED else f'error: {message}'}\n")
        return code


def _run(given: Sequence[str]) -> int:
    from mace_core.cli.verbosity import level_of, set_up_logging
    from mace_core.deployment.gflags import parse, usage
    from mace_core.deployment.mace_run_flags import FLAGS
    from mace_core.deployment.running import run_flags
    from mace_core.version import VERSION

    set_up_logging(level_of(verbose=False, quiet=False, debug=False))
    flags = parse(given, FLAGS)
    if flags.is_on("help") or not given:
        sys.stdout.write(usage("mace_run", FLAGS))
        return OK
    if flags.is_on("version"):
        sys.stdout.write(f"mace_run {VERSION}\n")
        return OK
    run_flags(flags, say=_say, write=sys.stdout.write)
    return OK


def _say(text: str) -> None:
    """A line of the log."""
    sys.stderr.write(f"I mace_run: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
