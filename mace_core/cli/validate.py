"""`mace validate`: how far a model's results are from a reference's, and which node is the first that is off."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.options import (
    Bgr,
    Devices,
    Inputs,
    Layout,
    Mean,
    Model,
    ProviderOptions,
    RandomInputs,
    Resize,
    Scale,
    Seed,
    Shapes,
    Threads,
    parse_provider_options,
)

if TYPE_CHECKING:
    from mace_core.numerics import Validation
    from mace_core.numerics.validation import Progress

PICTURE_SUFFIXES = (".svg", ".html")


def validate(
    model: Model,
    input: Inputs = [],  # noqa: B006 - typer copies it
    random: RandomInputs = False,
    seed: Seed = 0,
    shape: Shapes = [],  # noqa: B006
    device: Devices = [],  # noqa: B006
    against: Annotated[
        str, typer.Option("--against", metavar="NAME", help="The device that is believed, or 'onnxruntime'.")
    ] = "reference",
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare every value on the way, each after all before it.")
    ] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Run every node by itself too, fed with the reference's values.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="T", help="Largest error allowed, as a part of a value's range.")
    ] = 1e-3,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Write a picture, .svg or .html.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write all figures as JSON; '-' prints them.", show_default=False),
    ] = None,
    threads: Threads = 0,
    option: ProviderOptions = [],  # noqa: B006
    layout: Layout = "",
    mean: Mean = "",
    scale: Scale = "",
    resize: Resize = "",
    bgr: Bgr = False,
) -> None:
    """Compare a model's results on devices with those of a reference. Exit code 1 if they differ by more than allowed.

    Examples:

      mace validate model.onnx --random

      mace validate model.onnx --input picture.png --device opencl --layers --picture layers.svg

      mace validate model.onnx --random --layers --isolated --against onnxruntime --tolerance 1e-4

      mace validate model.onnx --input x=x.npy --option cpu.precision=bfloat16 --against cpu --tolerance 0.01
    """
    from mace_core.cli import output
    from mace_core.cli.inputs import gather_inputs, picture_options
    from mace_core.cli.sessions import open_session
    from mace_core.numerics import validate as compare_values

    pictures = picture_options(layout, mean, scale, resize, bgr)
    _check_targets(picture, json_file)
    with open_session(model, devices=device, threads=threads, provider_options=option) as session:
        feeds = gather_inputs(session.inputs, files=input, shapes=shape, random=random, seed=seed, picture=pictures)
    with _progress() as told:
        found = compare_values(
            model,
            feeds,
            devices=list(device) or None,
            options=parse_provider_options(option, threads),
            against=against,
            tolerance=tolerance,
            layers=layers,
            isolated=isolated,
            progress=told,
        )
    if picture is not None:
        _write_picture(found, picture)
    if json_file is None or str(json_file) != "-":
        _print(found)
    if json_file is not None:
        _write_json(found, json_file)
    if picture is not None and str(json_file) != "-":
        output.print_line(f"picture written to {picture}")
    if not found.is_good:
        raise typer.Exit(1)


def _check_targets(picture: Path | None, json_file: Path | None) -> None:
    """Refuse files that can not be written before the work is done."""
    from mace_core.errors import UsageError

    if picture is not None and picture.suffix.lower() not in PICTURE_SUFFIXES:
        raise UsageError(f"--picture {picture}: its name ends in {' or '.join(PICTURE_SUFFIXES)}")
    for option, path in (("--picture", picture), ("--json", json_file)):
        if path is not None and str(path) != "-" and not path.absolute().parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder '{path.parent}'")


def _print(found: Validation) -> None:
    from mace_core.cli import output
    from mace_core.numerics.table import COLUMNS, NUMBERS, rows

    output.print_line(f"{found.model} on {found.devices}, against {found.against}")
    shown = (2, 3, 4, 5, 6, 7, 8)
    output.print_table(
        "outputs, run as usual:",
        [COLUMNS[index] for index in shown],
        [[row[index] for index in shown] for row, _ in rows(found, found.outputs)],
        numbers=(3, 4, 5, 6),
    )
    if found.layers:
        table = [(["!" if is_bad else "", *row]) for row, is_bad in rows(found, found.layers)]
        used = [0, *(index + 1 for index in range(len(COLUMNS)) if any(row[index + 1] for row in table))]
        output.print_table(
            "values, in the order of the graph:",
            [["", *COLUMNS][index] for index in used],
            [[row[index] for index in used] for row in table],
            numbers=[place for place, index in enumerate(used) if index - 1 in NUMBERS],
        )
    for note in found.notes:
        output.print_line(f"note: {note}")
    output.print_line(f"{'ok' if found.is_good else 'DIVERGES'}: {found.verdict}")


def _write_picture(found: Validation, path: Path) -> None:
    from mace_core.errors import UsageError
    from mace_core.numerics.chart import html, svg

    try:
        path.write_text(html(found) if path.suffix.lower() == ".html" else svg(found), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--picture {path}: it can not be written: {error.strerror}") from None


def _write_json(found: Validation, path: Path) -> None:
    import json

    from mace_core.cli import output
    from mace_core.errors import UsageError
    from mace_core.numerics.table import as_data

    if str(path) == "-":
        output.print_json(as_data(found))
        return
    try:
        path.write_text(json.dumps(as_data(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: it can not be written: {error.strerror}") from None


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True, markup=False), transient=True) as bars:
        task = bars.add_task("", total=None)
        yield lambda what, done, total: bars.update(task, description=what, completed=done, total=total)
