"""`mace check`: what a device refuses of a model, and the rewrites that mend it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.completion import complete_device
from mace_core.cli.exit_codes import VERDICT
from mace_core.cli.options import Model, ProviderOptions, Shapes
from mace_core.cli.shared_options import OutputOptions, ReadingOptions, shared_options
from mace_core.cli.written_files import check_target

if TYPE_CHECKING:
    from mace_core.topology import TopologyReport


@shared_options
def check(
    model: Model,
    *,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="NAME",
            help="The device to ask, also one that is not on this machine, like hexagon:sm8650 (see `mace devices`).",
            show_default=False,
            autocompletion=complete_device,
        ),
    ],
    shape: Shapes = [],  # noqa: B006 - typer copies it
    repair: Annotated[
        Path | None,
        typer.Option(
            "--repair", metavar="OUT.onnx", help="Write the model with the rewrites in it here.", show_default=False
        ),
    ] = None,
    option: ProviderOptions = [],  # noqa: B006 - typer copies it
    reading: ReadingOptions,
    output: OutputOptions,
) -> None:
    """Find what a device refuses of a model, with the layer it comes from, and what rewrites mend.

    A rewrite counts if the device takes it and it computes the same, up to rounding. The exit code is 3 if the device
    refuses a node (with --repair: one that no rewrite mends).

    Examples:

      mace check model.onnx --device hexagon:sm8650

      mace check model.onnx --device opencl --shape x=1x3x224x224 --repair mended.onnx
    """
    from mace_core.cli.inputs import parse_shapes
    from mace_core.cli.output import progress
    from mace_core.cli.parsing import parse_provider_options
    from mace_core.frontend.load import load_model
    from mace_core.scheduler.planning.specs import spec_of
    from mace_core.topology import check_topology

    check_target("--repair", repair, (".onnx",))
    with progress(f"Checking {model}"):
        shapes = parse_shapes(shape, [spec_of(value) for value in load_model(model).inputs]) if shape else {}
        found = check_topology(model, device, shapes=shapes, options=parse_provider_options(option))
        if repair is not None:
            from mace_core.frontend.onnx.export import save_onnx

            save_onnx(found.graph, repair)
    output.deliver(
        "check",
        {**found.as_data(), "out": None if repair is None else str(repair)},
        lambda: _print(found, repair, output),
    )
    if found.refused if repair is not None else found.findings:
        raise typer.Exit(VERDICT)


def _print(found: TopologyReport, repair: Path | None, options: OutputOptions) -> None:
    from mace_core.cli.output import print_folded, print_table
    from mace_core.cli.verbosity import note

    if found.assumed:
        note(f"sizes assumed for free dimensions: {found.assumed} (--shape sets them)")
    print_folded(found.summary())
    if found.findings:
        print_table(options.shown(found.table()))
    if repair is not None:
        fixed = f", for the inputs {found.signature} alone" if found.is_fixed else ""
        print_folded(f"{repair} written: {len(found.mended)} nodes rewritten{fixed}")
    elif found.mended:
        print_folded("--repair OUT.onnx writes the model with the rewrites")
    if found.refused:
        print_folded(f"not mended: {len(found.refused)} node{'s' * (len(found.refused) != 1)}")
