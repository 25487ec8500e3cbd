"""`mace quantize`: a smaller, faster model from one in floating point, and what that costs in accuracy."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Bgr, Layout, Mean, Model, Resize, Scale, Shapes
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options

if TYPE_CHECKING:
    from mace_core.quantization import Outcome
    from mace_core.quantization.report import Report


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
    rounding: Annotated[
        str,
        typer.Option(
            "--rounding",
            metavar="nearest|gptq|adaround",
            help="Of weights; gptq makes up for its errors on the data, adaround learns from it (slow).",
        ),
    ] = "nearest",
    correct_bias: Annotated[
        bool, typer.Option("--correct-bias", help="Let biases make up for the mean error of rounded weights.")
    ] = False,
    equalize: Annotated[
        bool, typer.Option("--equalize", help="First make the channels of neighboring layers as large as each other.")
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
    accuracy: Annotated[
        str,
        typer.Option(
            "--accuracy",
            metavar="MODULE:FUNCTION",
            help="A function that gets a session and returns a score; more is better.",
            show_default=False,
        ),
    ] = "",
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            metavar="X",
            help="Keep as few of the most sensitive nodes in float as let the score drop by no more.",
            show_default=False,
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="SIZE|N%",
            help="Keep as much in float as fits into a file of this size (12MB, 1.5GiB, 40% of the model's), the most "
            "sensitive first; with int4-weight, choose among float, 8 and 4 bits.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html|FILE.json",
            help="Write the report with charts of layers and ranges here, as a page that works offline, or as JSON.",
            show_default=False,
        ),
    ] = None,
    shape: Shapes = [],  # noqa: B006 - typer copies it
    layout: Layout = "",
    mean: Mean = "",
    scale: Scale = "",
    resize: Resize = "",
    bgr: Bgr = False,
    reading: ReadingOptions,
    session: SessionOptions,
    output: OutputOptions,
) -> None:
    """Quantize a model after training: find ranges on calibration data, write standard QDQ ONNX, and report.

    Pictures become tensors as with `mace run`; say --mean, --scale, --layout as you do there.

    Examples:

      mace quantize model.onnx -o model.int8.onnx --data photos --mean 127.5 --scale 0.0078431

      mace quantize model.onnx -o model.int8.onnx --data samples.npz --algorithm mse --exclude Softmax

      mace quantize model.onnx -o model.int4.onnx --scheme int4-weight --granularity block:64

      mace quantize model.onnx -o model.small.onnx --data photos --max-size 40%
    """
    from mace_core.cli.inputs import parse_shapes, picture_options
    from mace_core.cli.output import progress
    from mace_core.cli.written_files import check_target
    from mace_core.quantization import Quantizer, Settings
    from mace_core.quantization.report.make import write_report

    check_target("--report", report, (".html", ".json"))
    pictures = picture_options(InputOptions(layout=layout, mean=mean, scale=scale, resize=resize, bgr=bgr))
    settings = Settings(
        scheme,
        algorithm,
        granularity,
        tuple(exclude),
        symmetric,
        rounding=rounding,
        corrects_bias=correct_bias,
        equalizes=equalize,
    )
    with progress(f"Quantizing {model}"):
        quantizer = Quantizer(model, settings)
        found = quantizer.run(
            out,
            data=data or None,
            pictures=pictures,
            shapes=parse_shapes(shape, quantizer.inputs),
            samples=samples,
            devices=session.devices,
            options=session.provider_options,
            accuracy=accuracy or None,
            max_drop=max_drop,
            max_size=max_size,
            reports=True,
        )
    said = found.report
    assert said is not None
    if report is not None:
        write_report(report, said)
    output.deliver("quantize", _findings(model, out, scheme, found, said), lambda: _tell(said, found, report))


def _findings(model: str, out: Path, scheme: str, found: Outcome, said: Report) -> dict[str, Any]:
    from mace_core.quantization.report.warnings import warnings

    judged = found.judged
    return {
        "model": model,
        "out": str(out),
        "scheme": scheme,
        "bytes": {"before": said.size_before, "after": said.size_after},
        "samples": found.samples,
        "quantized": found.nodes,
        "floats": found.floats,
        "notes": found.notes,
        "warnings": warnings(said),
        "layers": [
            {"node": layer.name, "form": layer.form, "sqnr_db": layer.sqnr_db, "cosine": layer.cosine}
            for layer in said.layers
        ],
        "accuracy": None if judged is None else {"before": judged.before, "after": judged.after, "kept": judged.kept},
        "size_budget": None if found.budget is None else {"limit": found.budget.limit, "levels": found.budget.levels},
        "sensitivity": [{"node": node, "sqnr_db": db} for node, db in found.sensitivity],
    }


def _tell(report: Report, found: Outcome, page: Path | None) -> None:
    from mace_core.cli.output import print_folded
    from mace_core.presentation.sizes import format_bytes
    from mace_core.presentation.terminal import terminal_width
    from mace_core.quantization.report import text

    print(text(report, terminal_width()))  # noqa: T201
    for name in found.judged.kept if found.judged is not None else ():
        print_folded(f"kept in float for the accuracy: {name}")
    if found.budget is not None:
        levels = Counter(found.budget.levels.values())
        mixture = ", ".join(f"{count} in {level}" for level, count in levels.most_common())
        print_folded(f"weights within {format_bytes(found.budget.limit)}: {mixture}")
    if page is not None:
        print_folded(f"report written to {page}")
