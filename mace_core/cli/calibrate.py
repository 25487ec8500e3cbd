"""`mace calibrate`: what each device costs, measured and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from mace_core.cli.options import Devices, ProviderOptions
from mace_core.cli.shared_options import OutputOptions, shared_options
from mace_core.errors import MaceError
from mace_core.presentation import Column, Table, number, prose
from mace_core.scheduler.costs.rates import Rates, WorkKind


@shared_options
def calibrate(
    device: Devices = [],  # noqa: B006 - typer's way
    option: ProviderOptions = [],  # noqa: B006
    *,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, max=60, help="Time for each of the small graphs.")
    ] = 0.2,
    output: OutputOptions,
) -> None:
    """Measure what each device costs, for the policies that place models by cost.

    Small graphs run on every real device, or on those named; the rates that follow are kept in the cache until the
    driver, the plugin or the options change. Without this, they are measured briefly when they are first needed.
    """
    from mace_core.calibration import calibrate as measure
    from mace_core.cli.output import print_line, progress
    from mace_core.cli.parsing import parse_provider_options
    from mace_core.presentation.terminal import terminal_width

    with progress("Measuring"):
        found = measure(list(device) or None, options=parse_provider_options(option, 0), seconds=seconds)
    data = {
        name: rates.as_data() if isinstance(rates, Rates) else {"error": str(rates)} for name, rates in found.items()
    }
    output.deliver("devices", data, lambda: print_line(_table(found).text(terminal_width())))


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
