"""`mace calibrate`: what each device costs, measured and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.shared_options import InputOptions, OutputOptions, SessionOptions, shared_options
from mace_core.errors import MaceError, UsageError
from mace_core.presentation import Column, Table, number, prose
from mace_core.scheduler.costs.rates import Rates, WorkKind

if TYPE_CHECKING:
    from mace_core.calibration import PlacementTime


@shared_options
def calibrate(
    model: Annotated[
        str,
        typer.Argument(metavar="[MODEL]", help="Measure this model's placements instead.", show_default=False),
    ] = "",
    *,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=60, help="Time for each of the small graphs, or placements.")
    ] = 0.2,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Measure what each device costs, for the policies that place models by cost.

    Small graphs run on every real device, or on those named; the rates that follow are kept in the cache until the
    driver, the plugin or the options change. Without this, they are measured briefly when they are first needed.

    With a model, what the policy chooses for it runs, the next best, and each device with all that it can run. What
    their partitions take is kept in the same way, and goes over the rates when that model is placed again.

    Examples:

      mace calibrate --device cpu

      mace calibrate model.onnx --shape x=1x3x48x320
    """
    from mace_core.calibration import calibrate as measure
    from mace_core.cli.output import print_line, progress
    from mace_core.presentation.terminal import terminal_width

    if model:
        _calibrate_model(model, seconds, session, inputs, output)
        return
    if session.policy or session.pin or session.strict or inputs != InputOptions():
        raise UsageError("policies, pins and inputs are for a model: mace calibrate MODEL")
    with progress("Measuring"):
        found = measure(session.devices, options=session.provider_options, seconds=seconds)
    data = {
        name: rates.as_data() if isinstance(rates, Rates) else {"error": str(rates)} for name, rates in found.items()
    }
    output.deliver("devices", data, lambda: print_line(_table(found).text(terminal_width())))


def _calibrate_model(
    model: str, seconds: float, session: SessionOptions, inputs: InputOptions, output: OutputOptions
) -> None:
    from dataclasses import asdict

    from mace_core.calibration import calibrate_model
    from mace_core.cli.output import print_line, progress
    from mace_core.presentation.terminal import terminal_width

    with progress(f"Measuring {model}"):
        found = calibrate_model(
            model,
            lambda opened: inputs.feeds(opened, fill=True),
            session.devices,
            policy=session.policy or None,
            options=session.provider_options,
            pins=session.pins,
            strict=session.strict,
            seconds=seconds,
        )

    data = {"placements": [asdict(each) for each in found]}
    output.deliver("placements", data, lambda: print_line(_placements(found).text(terminal_width())))


def _placements(found: Sequence[PlacementTime]) -> Table:
    columns = [Column("placement"), prose("devices"), number("partitions"), number("predicted ms")]
    columns += [number("measured ms"), Column("")]
    rows = [
        [
            each.name,
            " and ".join(each.devices),
            str(each.partitions),
            "" if each.predicted is None else f"{each.predicted * 1e3:.3g}",
            f"{each.measured * 1e3:.3g}",
            "taken from now on" if each.is_chosen else "",
        ]
        for each in found
    ]
    return Table(columns, rows)


def _table(found: Mapping[str, Rates | MaceError]) -> Table:
    kinds = tuple(kind for kind in WorkKind if kind is not WorkKind.OTHER)
    columns = [Column("device"), *(number(f"{kind.value} GMAC/s") for kind in kinds), number("memory GB/s")]
    columns += [number("launch us"), number("to it us"), number("GB/s"), number("from it us"), number("GB/s")]
    columns += [number("W"), prose("")]
    rows = []
    for name, rates in found.items():
        if not isinstance(rates, Rates):
            rows.append([name, *[""] * (len(columns) - 2), f"cannot be measured: {rates}"])
            continue
        row = [name, *(_rate(rates.mac.get(kind, 0.0)) for kind in kinds), _rate(rates.byte), _micros(rates.launch)]
        for border in (rates.to_device, rates.from_device):
            row += [_micros(border.seconds), _rate(border.seconds_per_byte)]
        watts = "" if rates.watts is None else f"{rates.watts:.1f}"
        rows.append([*row, watts, "" if rates.source == "measured" else rates.source])
    return Table(columns, rows)


def _rate(seconds: float) -> str:
    return f"{1e-9 / seconds:.1f}" if seconds else ""


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}" if seconds else ""
