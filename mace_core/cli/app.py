"""The `mace` command line: its sub-commands, and what an error looks like."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from mace_core.cli.accuracy import accuracy
from mace_core.cli.benchmark import benchmark
from mace_core.cli.cache import cache_app
from mace_core.cli.calibrate import calibrate
from mace_core.cli.check import check
from mace_core.cli.compile import compile_command
from mace_core.cli.convert import convert, option_word
from mace_core.cli.devices import devices
from mace_core.cli.doctor import doctor
from mace_core.cli.error_messages import message_of
from mace_core.cli.exit_codes import CLICK_ERROR, FAILURE, INTERRUPTED, OK, USAGE, exit_code_of
from mace_core.cli.explain import explain
from mace_core.cli.inspect import inspect
from mace_core.cli.memory import memory
from mace_core.cli.monitor import monitor
from mace_core.cli.options import Debug, Quiet, Trust, Verbose
from mace_core.cli.plugins import plugins
from mace_core.cli.profile import profile
from mace_core.cli.prune import prune
from mace_core.cli.quantize import quantize
from mace_core.cli.run import run
from mace_core.cli.serve import serve
from mace_core.cli.signing import keygen, sign, verify
from mace_core.cli.streams import OutputLostError, give_up_output
from mace_core.cli.tune_threads import tune_threads
from mace_core.cli.validate import validate
from mace_core.cli.verbosity import level_of, set_up_logging
from mace_core.version import VERSION

app = typer.Typer(
    name="mace",
    help="Run neural networks on the devices of this machine.\n\n"
    "Devices come from plugins: install mace-cpu, mace-opencl, … or a vendor's own.",
    epilog="Examples:\n\n"
    "    mace run model.onnx --random\n\n"
    "    mace run model.onnx --input x=picture.png --device cpu\n\n"
    "    mace explain model.onnx --shape x=1x3x224x224\n\n"
    "Exit codes: 0 success, 1 failure, 2 wrong usage or missing files, 3 results differ or something is broken, "
    "130 stopped by Ctrl-C.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(inspect)
app.command()(explain)
app.command()(benchmark)
app.command()(profile)
app.command()(memory)
app.command("tune-threads")(tune_threads)
app.command()(serve)
app.command()(accuracy)
app.command()(validate)
app.command()(quantize)
app.command()(prune)
app.command()(check)
app.command("compile")(compile_command)
app.command()(sign)
app.command()(verify)
app.command()(keygen)
app.command(context_settings={"token_normalize_func": option_word})(convert)
app.command()(devices)
app.command()(calibrate)
app.command()(monitor)
app.command()(plugins)
app.command()(doctor)
app.add_typer(cache_app, name="cache")


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"mace {VERSION}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    debug: Debug = False,
    trust: Trust = False,
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
    set_up_logging(level_of(verbose=verbose, quiet=quiet, debug=debug))
    if trust:
        from mace_core.frontend import trusted_files

        context.with_resource(trusted_files())
    if custom_ops:
        from mace_core.cli.custom_ops import import_custom_ops

        for source in custom_ops:
            import_custom_ops(source)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code; errors become one line on standard error, and with ``--json`` an
    object on standard output too."""
    given = list(arguments)
    try:
        return _run(given)
    except OutputLostError as error:
        give_up_output()
        if not isinstance(error.cause, BrokenPipeError):  # else its reader has left, as readers like `head` do
            _say(f"error: standard output cannot be written: {error.cause.strerror or error.cause}")
        return FAILURE
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in given:
            traceback.print_exception(error)
        return _report(error, given)


def _run(arguments: list[str]) -> int:
    from mace_core.provider.hooks import register_commands

    if arguments and arguments[0] not in _OWN_COMMANDS:  # help and unknown names: plugins may add commands
        register_commands(app)
    result = app(args=arguments, prog_name="mace", standalone_mode=False)
    sys.stdout.flush()
    if result == INTERRUPTED:  # some versions of typer catch Ctrl-C themselves
        raise KeyboardInterrupt
    return result if isinstance(result, int) else OK


_OWN_COMMANDS = frozenset(
    {
        "run",
        "inspect",
        "explain",
        "benchmark",
        "profile",
        "memory",
        "tune-threads",
        "accuracy",
        "validate",
        "quantize",
        "prune",
        "check",
        "compile",
        "sign",
        "verify",
        "keygen",
        "convert",
        "serve",
        "devices",
        "monitor",
        "plugins",
        "doctor",
        "cache",
        "--version",
    }
)


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    """One line that says what is wrong; the exit code tells whose fault it is."""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        sys.stderr.write(f"{error}\n")
        return USAGE
    code, message = exit_code_of(error), message_of(error)
    _say(message if code == INTERRUPTED else f"error: {message}")
    if "--json" in arguments:
        from mace_core.cli.json_output import error_document, to_json

        kind = "Interrupted" if code == INTERRUPTED else _kind_of(error)
        with contextlib.suppress(OSError, OutputLostError):  # the sentence is on standard error already
            sys.stdout.write(to_json(error_document(_command_of(arguments), kind, message, code)))
            sys.stdout.flush()
    return code


def _kind_of(error: BaseException) -> str:
    """The name that a program may look at: a class of `mace_core.errors`, or of Python."""
    return "UsageError" if isinstance(error, CLICK_ERROR) else type(error).__name__


def _command_of(arguments: Sequence[str]) -> str:
    """The sub-command that the line asks for; "" if it names none."""
    return next((argument for argument in arguments if not argument.startswith("-")), "")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # there is no third place to say it
        sys.stderr.write(f"mace: {text}\n")
        sys.stderr.flush()
