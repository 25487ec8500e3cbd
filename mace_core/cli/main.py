"""Entry of the `mace` command: sub-commands, exit codes, and what an error looks like."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from mace_core.cli.benchmark import benchmark
from mace_core.cli.cache import cache_app
from mace_core.cli.devices import devices
from mace_core.cli.doctor import doctor
from mace_core.cli.explain import explain
from mace_core.cli.plugins import plugins
from mace_core.cli.run import run
from mace_core.errors import MaceError, UsageError
from mace_core.version import VERSION

EXIT_OK, EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

_CLICK_ERROR = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
"""Base of typer's own errors, found this way because typer has no public name for it."""

app = typer.Typer(
    name="mace",
    help="Run neural networks on the devices of this machine.\n\n"
    "Devices come from plugins: pip install mace-cpu, mace-opencl … or a vendor's own.",
    epilog="Examples:\n\n"
    "    mace run model.onnx --random\n\n"
    "    mace run model.onnx --input x=picture.png --device cpu\n\n"
    "    mace explain model.onnx --shape x=1x3x224x224\n\n"
    "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(explain)
app.command()(benchmark)
app.command()(devices)
app.command()(plugins)
app.command()(doctor)
app.add_typer(cache_app, name="cache")


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"mace {VERSION}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell on stderr what is going on.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and debug logs; may stand anywhere on the line.")
    ] = False,
    custom_ops: Annotated[
        list[str],
        typer.Option(
            "--custom-ops",
            metavar="FILE|MODULE",
            help="Python file or module that registers custom operators; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
) -> None:
    """What the options before a sub-command do."""
    _set_up_logging(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    if custom_ops:
        from mace_core.cli.custom_ops import import_custom_ops

        for source in custom_ops:
            import_custom_ops(source)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; errors become one line on standard error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if debug:  # wherever it stands
        given = ["--debug", *(argument for argument in given if argument != "--debug")]
    try:
        return _run(given)
    except BrokenPipeError:  # the reader of our output has left: nobody is there to complain to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        if debug:
            raise
        return _report(error)
    except KeyboardInterrupt:
        _say("stopped")
        return EXIT_INTERRUPTED


def _run(arguments: list[str]) -> int:
    from mace_core.provider.hooks import register_commands

    if arguments and arguments[0] not in _OWN_COMMANDS:  # help and unknown names: plugins may add commands
        register_commands(app)
    result = app(args=arguments, prog_name="mace", standalone_mode=False)
    sys.stdout.flush()
    if result == EXIT_INTERRUPTED:  # some versions of typer catch Ctrl-C themselves
        _say("stopped")
    return result if isinstance(result, int) else EXIT_OK


_OWN_COMMANDS = frozenset({"run", "explain", "benchmark", "devices", "plugins", "doctor", "cache", "--version"})


def _report(error: Exception) -> int:
    """One line that says what is wrong; the exit code tells whose fault it is."""
    if isinstance(error, typer.Abort):
        _say("stopped")
        return EXIT_INTERRUPTED
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    if isinstance(error, _CLICK_ERROR):
        _say(f"error: {_click_message(error)}")
        return EXIT_USAGE
    if isinstance(error, MaceError):
        _say(f"error: {error}")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE
    if isinstance(error, MemoryError):
        _say("error: there is not enough memory")
    elif isinstance(error, OSError) and error.filename is not None:
        _say(f"error: {error.strerror}: '{error.filename}'")
    else:
        _say(f"error: {type(error).__name__}: {error} - this is a defect; run again with --debug for the details")
    return EXIT_FAILURE


def _click_message(error: Exception) -> str:
    """Typer's own message with the way to more help."""
    message = str(getattr(error, "format_message", error.__str__)())
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "mace")
    return f"{message} (see '{path} --help')" if message else f"see '{path} --help'"


def _say(text: str) -> None:
    sys.stderr.write(f"mace: {text}\n")


def _set_up_logging(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mace: %(levelname)s: %(message)s"))
    for name in ("mace", "mace_core"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


if __name__ == "__main__":
    sys.exit(main())
