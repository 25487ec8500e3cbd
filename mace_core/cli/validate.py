"""`mace validate`: how far a model's results are from a reference's, and which node is the first that is off."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.exit_codes import VERDICT
from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target, write_whole

if TYPE_CHECKING:
    from mace_core.numerics import Validation
    from mace_core.numerics.findings import Progress

PICTURE_SUFFIXES = (".svg", ".html")


@shared_options
def validate(
    model: Model,
    *,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            metavar="NAME",
            help="The device to compare with, or 'onnxruntime' or 'openvino'. Default: reference; of a package without "
            "inputs, what its samples expect.",
            show_default=False,
        ),
    ] = "",
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Compare every intermediate value too; errors accumulate. In a quantized model, compare each "
            "quantized value, in steps, with what the reference makes of ours before it.",
        ),
    ] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Also run every node by itself, on the reference's values.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="T",
            help="Largest error allowed, as a fraction of a value's range. Default: 0.001, or what samples allow.",
            show_default=False,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Write a picture, .svg or .html.", show_default=False),
    ] = None,
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Compare the results of devices with those of a reference. The exit code is 3 if they differ by more than allowed.

    A package that holds samples needs nothing else: without inputs, they are run, and compared with what they expect.

    Examples:

      mace validate model.onnx --random

      mace validate model.mace --device hexagon

      mace validate model.onnx --input picture.png --device opencl --layers --picture layers.svg

      mace validate model.onnx --random --layers --isolated --against onnxruntime --tolerance 1e-4

      mace validate quantized.onnx --input picture.png --layers --against openvino

      mace validate model.onnx --input x=x.npy --option cpu.precision=bfloat16 --against cpu --tolerance 0.01
    """
    from mace_core.cli.output import print_folded
    from mace_core.numerics import validate as compare_values
    from mace_core.numerics.samples import has_samples
    from mace_core.numerics.table import as_data
    from mace_core.numerics.validation import DEFAULT_TOLERANCE

    check_target("--picture", picture, PICTURE_SUFFIXES)
    is_fed = bool(inputs.input or inputs.npz or inputs.random)
    if not is_fed and not against and not layers and not isolated and picture is None and has_samples(model):
        _validate_samples(model, tolerance, session, output)
        return
    with session.open(model) as opened:
        feeds = inputs.feeds(opened)
    with _progress() as told:
        found = compare_values(
            model,
            feeds,
            devices=session.devices,
            options=session.provider_options,
            strict=session.strict,
            pins=session.pins,
            against=against or "reference",
            tolerance=DEFAULT_TOLERANCE if tolerance is None else tolerance,
            layers=layers,
            isolated=isolated,
            progress=told,
        )
    if picture is not None:
        _write_picture(found, picture)

    def text() -> None:
        _print(found, output)
        if picture is not None:
            print_folded(f"picture written to {picture}")

    output.deliver("validate", as_data(found), text)
    if not found.is_good:
        raise typer.Exit(VERDICT)


def _validate_samples(model: str, tolerance: float | None, session: SessionOptions, output: OutputOptions) -> None:
    from mace_core.numerics import validate_samples
    from mace_core.numerics.table import as_data

    with _progress() as told:
        found = validate_samples(
            model,
            devices=session.devices,
            options=session.provider_options,
            strict=session.strict,
            pins=session.pins,
            tolerance=tolerance,
            progress=told,
        )
    is_good = all(each.is_good for each in found)

    def text() -> None:
        for each in found:
            _print(each, output)

    output.deliver("validate", {"is_good": is_good, "samples": [as_data(each) for each in found]}, text)
    if not is_good:
        raise typer.Exit(VERDICT)


def _print(found: Validation, options: OutputOptions) -> None:
    from mace_core.cli.output import print_folded, print_table
    from mace_core.numerics.table import layers_table, outputs_table

    print_folded(f"{found.model} on {found.devices}, against {found.against}")
    if found.outputs:
        print_table(options.shown(outputs_table(found)))
    if found.layers:
        print_table(options.shown(layers_table(found, worst_first=not options.all_rows)))
    for note in found.notes:
        print_folded(f"note: {note}")
    print_folded(f"{'ok' if found.is_good else 'DIVERGES'}: {found.verdict}")


def _write_picture(found: Validation, path: Path) -> None:
    from mace_core.numerics.chart import html, svg

    text = html(found) if path.suffix.lower() == ".html" else svg(found)
    write_whole(path, text.encode(), "--picture")


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
