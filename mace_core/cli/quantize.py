"""`mace quantize`: a smaller, faster model from one in floating point, and what that costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_core.cli.options import Bgr, Layout, Mean, Model, Resize, Scale, Shapes
from mace_core.cli.shared_options import InputOptions, OutputOptions, SessionOptions, shared_options


@shared_options
def quantize(
    model: Model,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT.onnx", help="Write the quantized model here.", show_default=False),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|FILE.npz|MODULE:FUNCTION",
            help="Calibration data: a folder of pictures, .npy or .npz files; an archive with one array of samples for "
            "each input; or a function that gives samples one after another.",
        ),
    ] = "",
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme",
            metavar="NAME",
            help="int8: 8-bit activations and weights; a16w8: 16-bit activations; int4-weight: 4-bit weights alone; "
            "fp16, bf16: narrower floats; dynamic: 8 bits, with the ranges of each run.",
        ),
    ] = "int8",
    algorithm: Annotated[
        str,
        typer.Option("--algorithm", metavar="NAME", help="How ranges are chosen: minmax, percentile, entropy or mse."),
    ] = "minmax",
    granularity: Annotated[
        str,
        typer.Option(
            "--granularity",
            metavar="channel|tensor|block:N",
            help="What shares a scale of the weights; default: channel, of int4-weight block:32.",
        ),
    ] = "",
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="Put the zero point of activations in the middle.")
    ] = False,
    exclude: Annotated[
        list[str],
        typer.Option(
            "--exclude",
            metavar="PATTERN",
            help="Nodes that stay in float, by name or operator type (* and ? allowed); may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
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
    """Quantize a model after training: find ranges on calibration data, write standard QDQ ONNX, and report.

    Pictures become tensors as with `mace run`; say --mean, --scale, --layout as you do there.

    Examples:

      mace quantize model.onnx -o model.int8.onnx --data photos --mean 127.5 --scale 0.0078431

      mace quantize model.onnx -o model.int8.onnx --data samples.npz --algorithm mse --exclude Softmax

      mace quantize model.onnx -o model.int4.onnx --scheme int4-weight --granularity block:64
    """
    from mace_core.cli.inputs import parse_shapes, picture_options
    from mace_core.cli.output import print_folded, progress
    from mace_core.quantization import Quantizer, Settings

    pictures = picture_options(InputOptions(layout=layout, mean=mean, scale=scale, resize=resize, bgr=bgr))
    settings = Settings(scheme, algorithm, granularity, tuple(exclude), symmetric)
    with progress(f"Quantizing {model}"):
        quantizer = Quantizer(model, settings)
        quantizer.run(
            out,
            data=data or None,
            pictures=pictures,
            shapes=parse_shapes(shape, quantizer.inputs),
            samples=samples,
            devices=session.devices,
            options=session.provider_options,
        )
    output.deliver("quantize", {"model": model, "out": str(out)}, lambda: print_folded(f"{out} written"))
