"""`mace prune`: weights that are zero in a pattern that devices multiply faster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Bgr, Layout, Mean, Model, Resize, Scale, Shapes
from mace_core.cli.shared_options import InputOptions, OutputOptions, SessionOptions, shared_options

if TYPE_CHECKING:
    from mace_core.sparsity import Pruning


@shared_options
def prune(
    model: Model,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Write the pruned model here.", show_default=False),
    ],
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="N:M", help="Of each M input channels in a row, N keep their weights.")
    ] = "2:4",
    shared: Annotated[
        int,
        typer.Option(
            "--shared",
            metavar="N",
            min=1,
            help="So many neighboring output channels keep the same ones. 32 and 64 make the CPU nearly twice as fast, "
            "1 loses the least accuracy.",
        ),
    ] = 32,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|FILE.npz|MODULE:FUNCTION",
            help="Samples: with them, the weights that stay make up for those that do not. A folder of pictures, .npy "
            "or .npz files; an archive with one array of samples for each input; or a function that gives samples.",
        ),
    ] = "",
    exclude: Annotated[
        list[str],
        typer.Option(
            "--exclude",
            metavar="PATTERN",
            help="Nodes that stay dense, by name or operator type (* and ? allowed); may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    all_layers: Annotated[
        bool, typer.Option("--all-layers", help="Prune the first and the last layer, too: they are the most sensitive.")
    ] = False,
    dense_file: Annotated[
        bool, typer.Option("--dense-file", help="Write the weights with their zeros, in a file of the old size.")
    ] = False,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=1, help="Use at most so many samples of the data.")
    ] = 1000,
    shape: Shapes = [],  # noqa: B006 - typer copies it
    layout: Layout = "",
    mean: Mean = "",
    scale: Scale = "",
    resize: Resize = "",
    bgr: Bgr = False,
    session: SessionOptions,
    output: OutputOptions,
) -> None:
    """Prune a model to a pattern such as 2:4, write it as standard ONNX, and report.

    Pictures become tensors as with `mace run`; say --mean, --scale, --layout as you do there.

    Examples:

      mace prune model.onnx -o model.2of4.onnx --data photos --mean 127.5 --scale 0.0078431

      mace prune model.onnx -o model.2of4.onnx --shared 64 --exclude 'layer4*'
    """
    from mace_core.cli.inputs import parse_shapes, picture_options
    from mace_core.cli.output import progress
    from mace_core.sparsity import Pattern, Pruner

    pictures = picture_options(InputOptions(layout=layout, mean=mean, scale=scale, resize=resize, bgr=bgr))
    wanted = Pattern.parse(pattern, shared)
    with progress(f"Pruning {model}"):
        pruner = Pruner(model, wanted, exclude=exclude, all_layers=all_layers)
        found = pruner.run(
            out,
            data=data or None,
            pictures=pictures,
            shapes=parse_shapes(shape, pruner.inputs),
            samples=samples,
            devices=session.devices,
            options=session.provider_options,
            packed=not dense_file,
        )
    output.deliver("prune", _as_data(model, out, found), lambda: _print(out, found))


def _as_data(model: object, out: Path, found: Pruning) -> dict[str, Any]:
    return {
        "model": str(model),
        "out": str(out),
        "samples": found.samples,
        "bytes_before": found.bytes_before,
        "bytes_after": found.bytes_after,
        "layers": [
            {**dataclasses.asdict(layer), "shape": list(layer.shape), "pattern": str(layer.pattern)}
            | {"shared": layer.pattern.shared, "by_tap": layer.pattern.by_tap}
            for layer in found.layers
        ],
        "dense": found.dense,
        "notes": found.notes,
    }


def _print(out: Path, found: Pruning) -> None:
    from mace_core.cli.output import print_folded, print_table
    from mace_core.presentation.table import Column, Table, number

    columns = (Column("layer"), Column("type", 3), Column("weights", 2), number("squares kept"), number("error"))
    rows = [
        (
            layer.name,
            layer.op_type,
            "x".join(map(str, layer.shape)),
            f"{layer.magnitude:.1%}",
            "" if layer.error is None else f"{layer.error:.1%}",
            "" if layer.error_by_magnitude is None else f"{layer.error_by_magnitude:.1%}",
        )
        for layer in found.layers
    ]
    print_table(Table((*columns, number("uncompensated", 1)), rows))
    by_reason: dict[str, list[str]] = {}
    for name, reason in found.dense.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        print_folded(f"dense ({reason}): {listed}")
    for note in found.notes:
        print_folded(note)
    size = f"{found.bytes_before / 2**20:.1f} MiB of constants are {found.bytes_after / 2**20:.1f} MiB now"
    print_folded(f"{out} written: {len(found.layers)} layers pruned, {size}")
