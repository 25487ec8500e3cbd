"""`mace benchmark --seconds`: throughput of several streams over one or more devices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.presentation import Column, Table, number
from mace_core.presentation.charts import Chart, Line, Lines

if TYPE_CHECKING:
    from mace_core.cli.shared_options import OutputOptions, SessionOptions
    from mace_core.measurement import Throughput
    from mace_core.session import Session

WINDOWS = 50
"""Parts of the time that the chart shows the rate of."""


def check_throughput(session: SessionOptions, *, spread: bool, given: Mapping[str, bool]) -> None:
    """Refuse options that have no place here.

    Args:
        given: by option, whether it was given.

    Raises:
        UsageError: saying which.
    """
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"--seconds measures throughput alone and has no place for {option}")
    if spread and len(session.devices or ()) < 2:
        raise UsageError("--spread shares the streams among devices: name two or more with --device")


@contextlib.contextmanager
def open_sessions(model: str, session: SessionOptions, *, spread: bool) -> Iterator[list[tuple[str, Session]]]:
    """One session, or one for each device that is named; by what they are called."""
    from dataclasses import replace

    if not spread:
        with session.open(model) as opened:
            yield [(", ".join(session.devices or ["all devices"]), opened)]
        return
    with contextlib.ExitStack() as stack:
        yield [
            (name, stack.enter_context(replace(session, device=[name]).open(model))) for name in session.devices or []
        ]


def throughput_of(
    sessions: Sequence[tuple[str, Session]],
    feeds: Mapping[str, Any],
    *,
    streams: int,
    seconds: float,
    warmup: int,
    batch: int,
) -> Throughput:
    """Compile, warm up and measure, with progress."""
    from mace_core.cli.output import progress
    from mace_core.measurement import measure_throughput

    if streams < len(sessions):
        raise UsageError(f"--streams {streams}: {len(sessions)} devices are to share them; give at least as many")
    with progress("Compiling"):
        for _, opened in sessions:
            opened.prepare({name: value.shape for name, value in feeds.items()})
    with progress("Running"):
        return measure_throughput(sessions, feeds, streams=streams, seconds=seconds, warmup=warmup, batch=batch)


def deliver_throughput(
    model: str, found: Throughput, virtual: Mapping[str, str], chart: Path | None, output: OutputOptions
) -> None:
    """Print it, as text or JSON, and draw it."""
    from mace_core.cli.output import print_folded, print_table
    from mace_core.presentation.chart_page import write_charts

    said = _sentences(found)
    if chart is not None:
        write_charts(chart, f"{model}: throughput", said, charts(found), [table(model, found)])

    def text() -> None:
        for device, name in virtual.items():
            print_folded(f"NOT A MEASURE OF SPEED: {device} is virtual ({name})")
        print_table(table(model, found))
        for sentence in said:
            print_folded(sentence)
        if chart is not None:
            print_folded(f"{chart} written")

    told = {"model": model, "measures_speed": not virtual, "virtual": dict(virtual)}
    output.deliver("benchmark", {**told, "throughput": found.as_data(), "chart": chart and str(chart)}, text)


def table(model: str, found: Throughput) -> Table:
    """A row for each session, and one for all."""
    devices = found.devices()
    rows = [
        _row(device, sum(each.device == device for each in found.streams), found.summary(device)) for device in devices
    ]
    if len(devices) > 1:
        rows.append(_row("all", len(found.streams), found.summary()))
    columns = (
        *(Column("session"), number("streams", 2), number("runs", 4), number("frames/s"), number("p50 ms")),
        *(number("p90 ms", 1), number("p99 ms", 1), number("min ms", 5), number("max ms", 3)),
    )
    title = f"{model}: {found.seconds:.2f} s, {len(found.streams)} streams"
    return Table(columns, rows, title + (f", batches of {found.batch}" if found.batch > 1 else ""))


def _row(name: str, streams: int, told: Mapping[str, float]) -> tuple[str, ...]:
    times = (f"{told[key] * 1e3:.3f}" for key in ("p50", "p90", "p99", "min", "max"))
    return (name, str(streams), f"{told['runs']:.0f}", f"{told['frames_per_second']:.1f}", *times)


def _sentences(found: Throughput) -> list[str]:
    frames = found.runs * found.batch
    busy = found.processor_seconds / found.seconds
    lines = [f"{found.processor_seconds / frames * 1e3:.3f} ms of processor time a frame; {busy:.2f} processors busy"]
    if found.watts is not None and found.joules_per_frame is not None:
        lines.append(f"{found.watts:.1f} W of the processors, {found.joules_per_frame:.4f} J a frame")
    return lines


def charts(found: Throughput) -> list[Chart]:
    """Throughput over time, and the latency that each share of the runs stays below."""
    devices = found.devices()
    names: list[str | None] = [*devices, None] if len(devices) > 1 else [None]
    windows = max(2, min(WINDOWS, found.runs // 4))
    rates, shares = [], []
    for name in names:
        label = name or ("all" if len(devices) > 1 else devices[0])
        points = found.rate_over_time(windows, name)
        rates.append(Line(label, [x for x, _ in points], [y for _, y in points]))
        ordered = [each * 1e3 for each in found.latencies(name)]
        stride = max(1, len(ordered) // 1000)
        picked = [*range(0, len(ordered), stride), len(ordered) - 1]
        shares.append(Line(label, [(place + 1) / len(ordered) * 100 for place in picked], [ordered[p] for p in picked]))
    return [
        Lines("frames a second, over time", rates, lambda x: f"{x:g} s", lambda y: f"{y:.4g}"),
        Lines(
            "latency that this share of the runs does not exceed", shares, lambda x: f"{x:g} %", lambda y: f"{y:.3g} ms"
        ),
    ]
