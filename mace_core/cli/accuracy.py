"""`mace accuracy`: how far the results of some devices and options are from those of others, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options

if TYPE_CHECKING:
    import numpy.typing as npt

SEEDS_WITHOUT_INPUT = 4


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output is from what it should be, over all runs.

    Attributes:
        output: its name.
        elements: compared in all.
        largest, relative, sqnr_db: of the finite elements, see `mace_core.numerics.difference.Difference`.
        same_peak: share of the rows along the last axis whose largest element is at the same place; None for scalars.
        not_finite: elements that are infinite or NaN on one side alone, or differ in which of them they are.
    """

    output: str
    elements: int
    largest: float
    relative: float
    sqnr_db: float
    same_peak: float | None
    not_finite: int


def compare(output: str, got: Sequence[npt.NDArray[Any]], wanted: Sequence[npt.NDArray[Any]]) -> OutputError:
    """The error of ``got``, one array per run, against ``wanted`` of the same shapes."""
    import numpy as np

    from mace_core.numerics.difference import compare as difference

    a = np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in got])
    b = np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in wanted])
    both = np.isfinite(a) & np.isfinite(b)
    unlike = ~both & ~((a == b) | (np.isnan(a) & np.isnan(b)))
    finite = difference(a[both], b[both])
    peaks = [
        np.asarray(x).argmax(axis=-1) == np.asarray(y).argmax(axis=-1)
        for x, y in zip(got, wanted, strict=True)
        if np.ndim(y) and np.size(y) and np.shape(y)[-1] > 1
    ]
    same = float(np.mean(np.concatenate([p.reshape(-1) for p in peaks]))) if peaks else None
    return OutputError(
        output, int(both.size), finite.max_error, finite.relative, finite.sqnr_db, same, int(unlike.sum())
    )


@shared_options
def accuracy(
    model: Model,
    *,
    runs: Annotated[
        int,
        typer.Option("--runs", metavar="N", min=1, help="Number of random inputs to run, if not all inputs are given."),
    ] = SEEDS_WITHOUT_INPUT,
    against: Annotated[
        str,
        typer.Option("--against", metavar="DEVICE", help="Device whose results, without options, are the baseline."),
    ] = "cpu",
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Run a model with the given devices and options and on the CPU in float32, and show how the results differ.

    The figures hold for these inputs and this model. Random numbers may be harder or easier than real inputs.

    Examples:

      mace accuracy model.onnx --device cpu --option cpu.precision=bfloat16 --input picture.png

      mace accuracy model.onnx --device opencl --shape x=1x3x48x320 --runs 10
    """
    from mace_core.cli.output import print_table, progress
    from mace_core.presentation import Column, Table, number

    got: dict[str, list[Any]] = {}
    wanted: dict[str, list[Any]] = {}
    judge = SessionOptions(device=[against], threads=session.threads)
    with session.open(model) as tried, judge.open(model) as right:
        given = inputs.given(tried)
        count = runs if len(given) < len(tried.inputs) else 1
        for index in range(count):
            feeds = inputs.feeds(tried, fill=True, seed=inputs.seed + index)
            with progress(f"Run {index + 1} of {count}"):
                _collect(got, tried.run(feeds))
                _collect(wanted, right.run(feeds))
    errors = [compare(name, got[name], wanted[name]) for name in wanted]
    columns = (
        Column("output"),
        number("elements", 5),
        number("largest error", 3),
        number("of the range"),
        number("SQNR dB", 2),
        number("same peak", 4),
        number("not finite alike", 1),
    )
    title = f"{model}, {count} run{'s' * (count != 1)}, against {against} without options"
    output.deliver(
        "accuracy",
        {"model": model, "runs": count, "against": against, "outputs": [asdict(error) for error in errors]},
        lambda: print_table(output.shown(Table(columns, [_row(error) for error in errors], title))),
    )


def _collect(into: dict[str, list[Any]], results: Mapping[str, Any]) -> None:
    """Add one run's outputs; what is not an array of numbers cannot be compared."""
    import numpy as np

    from mace_core.errors import UsageError

    for name, value in results.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise UsageError(f"the output '{name}' is {kind}, which has no distance; `mace run` prints outputs")
        into.setdefault(name, []).append(value)


def _row(error: OutputError) -> tuple[str, ...]:
    return (
        error.output,
        str(error.elements),
        f"{error.largest:.3g}",
        f"{error.relative:.2e}",
        f"{error.sqnr_db:.1f}",
        "" if error.same_peak is None else f"{error.same_peak * 100:.1f} %",
        str(error.not_finite or ""),
    )
