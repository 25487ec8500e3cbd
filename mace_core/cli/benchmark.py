"""`mace benchmark`: how long each phase and each operation takes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.benchmark_sections import check_sections, measured, printer
from mace_core.cli.benchmark_throughput import check_throughput, deliver_throughput, open_sessions, throughput_of
from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target
from mace_core.errors import MaceError, UsageError
from mace_core.presentation.chart_page import SUFFIXES

if TYPE_CHECKING:
    from mace_core.cli.measuring import Timings
    from mace_core.report.model_facts import ModelFacts
    from mace_core.report.step_times import StepTime
    from mace_core.scheduler.explain import Explanation
    from mace_core.scheduler.profile import Profile
    from mace_core.session import Session

PROFILED_RUNS = 5


@shared_options
def benchmark(
    model: Model,
    *,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Warm runs to time.")] = 20,
    warmup: Annotated[
        int, typer.Option("--warmup", metavar="N", min=0, help="Runs before them, which do not count.")
    ] = 3,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", min=0, help="Samples in a run, if the model leaves their number free."),
    ] = 0,
    streams: Annotated[
        int, typer.Option("--streams", metavar="N", min=1, max=256, help="Concurrent requests on one session.")
    ] = 1,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            min=0,
            help="Measure throughput alone, for so long: frames a second and latencies of all streams.",
            show_default=False,
        ),
    ] = 0.0,
    spread: Annotated[
        bool,
        typer.Option("--spread", help="With --seconds: a session for each device named, which streams take in turn."),
    ] = False,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="FILE.html|FILE.svg",
            help="With --seconds: draw throughput over time and the distribution of latencies.",
            show_default=False,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE.json",
            help="Write when each thread did what, for chrome://tracing or ui.perfetto.dev.",
            show_default=False,
        ),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option(
            "--timeline", metavar="FILE.svg", help="Draw the same for one run, as a picture.", show_default=False
        ),
    ] = None,
    sections: Annotated[
        str,
        typer.Option(
            "--sections",
            metavar="mace",
            help="Print the eight sections of the benchmark of Xiaomi's MACE instead.",
            show_default=False,
        ),
    ] = "",
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Measure a model: import, load, compile, first run, warm runs, throughput, memory, and each operation.

    Warm runs are reported as percentiles (p50, p90, p99). With --streams, several threads run the model at once; with
    --batch, the rows of each input are repeated.

    The first run of a model on a machine also compiles its kernels; `mace cache clear` restores that state. Operations
    are timed in separate runs afterwards. Their rate of multiply-accumulates is compared with the rate that the same
    threads reach in a loop of float32 multiply-adds (% of peak).

    Examples:

      mace benchmark model.onnx --threads 1 --runs 50

      mace benchmark model.onnx --shape x=1x3x48x320 --device cpu --json

      mace benchmark model.onnx --input picture.png --batch 8 --streams 4 --runs 200

      mace benchmark model.onnx --trace trace.json --timeline timeline.svg

      mace benchmark model.onnx --sections mace --runs 100 --warmup 1

      mace benchmark model.onnx --streams 4 --seconds 10 --threads 1 --chart throughput.html
    """
    from mace_core.cli.output import print_folded
    from mace_core.report.model_facts import model_facts
    from mace_core.report.step_times import step_times

    check_target("--trace", trace, (".json",))
    check_target("--timeline", timeline, (".svg",))
    check_target("--chart", chart, SUFFIXES)
    pictures = {"--trace": trace is not None, "--timeline": timeline is not None}
    if seconds:
        check_throughput(session, spread=spread, given={**pictures, "--sections": bool(sections)})
        with open_sessions(model, session, spread=spread) as sessions:
            fed = _feeds(sessions[0][1], inputs, batch)
            flow = throughput_of(sessions, fed, streams=streams, seconds=seconds, warmup=warmup, batch=batch or 1)
            virtual = {name: what for _, each in sessions for name, what in each.explain().virtual.items()}
        deliver_throughput(model, flow, virtual, chart, output)
        return
    if spread or chart is not None:
        raise UsageError(f"{'--spread' if spread else '--chart'} is for throughput: give --seconds S too")
    if sections:
        others = {"--streams": streams > 1, **pictures}
        check_sections(sections, others)
        with session.open(model) as opened:
            statistics = measured(opened, model, _feeds(opened, inputs, batch), warmup=warmup, runs=runs)
            virtual = dict(opened.explain().virtual)
        told = {"model": model, "sections": sections, "measures_speed": not virtual, "virtual": virtual}
        output.deliver("benchmark", {**told, **statistics.as_data()}, printer(statistics, virtual))
        return
    import_seconds = _import_seconds()
    start = time.perf_counter()
    with session.open(model) as opened:
        phases = {"import": import_seconds, "load": time.perf_counter() - start}
        feeds = _feeds(opened, inputs, batch)
        found = _measure(opened, feeds, phases, runs=runs, warmup=warmup, streams=streams)
    facts = model_facts(model, feeds)
    steps = step_times(found.profiles, facts, found.peaks)
    macs = sum(facts.macs.values())
    _write_pictures(found, facts, model, trace, timeline)
    findings = {
        "model": model,
        "threads": session.threads or None,
        "runs": runs,
        "batch": batch or None,
        "streams": streams,
        "measures_speed": not found.explanation.virtual,
        "virtual": dict(found.explanation.virtual),
        **_as_data(found, steps, macs, batch or 1),
    }

    def text() -> None:
        load = f"{runs} warm runs" + (f" in each of {streams} streams" if streams > 1 else "")
        title = f"{model}, {load}{f', batches of {batch}' if batch else ''}"
        for device, name in found.explanation.virtual.items():
            print_folded(f"NOT A MEASURE OF SPEED: {device} is virtual ({name})")
        _print_times(title, found, found.warm.inferences_per_second(batch or 1))
        _print_speed(macs, found.speed(macs), found.peaks)
        _print_operations(steps, found.explanation, output)
        for written in filter(None, (trace, timeline)):
            print_folded(f"{written} written")

    output.deliver("benchmark", findings, text)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was found out about an open session.

    Attributes:
        phases: seconds by name, up to the first run.
        warm: the warm runs.
        profiles: of a few runs after them.
        explanation: where the nodes ran.
        memory: the most bytes the process held.
        peaks: multiply-accumulates a second that each device could do.
    """

    phases: Mapping[str, float]
    warm: Timings
    profiles: Sequence[Profile]
    explanation: Explanation
    memory: int
    peaks: Mapping[str, float]

    @property
    def times(self) -> dict[str, float]:
        """Seconds of each phase, warm runs included."""
        fractions = {"warm p50": 0.5, "warm p90": 0.9, "warm p99": 0.99}
        warm = {name: self.warm.percentile(fraction) for name, fraction in fractions.items()}
        return {**self.phases, **warm, "warm min": self.warm.latencies[0]}

    def speed(self, macs: int) -> float:
        """GMAC/s of the warm runs, of which each does so many multiply-accumulates."""
        return macs * len(self.warm.latencies) / self.warm.wall_seconds / 1e9


def _feeds(opened: Session, inputs: InputOptions, batch: int) -> dict[str, Any]:
    """What is fed: the inputs given, or filled in; their rows repeated for a batch."""
    from mace_core.cli.measuring import batch_inputs, batched

    repeated = batch_inputs(opened.inputs) if batch else []
    feeds = inputs.feeds(opened, fill=True)
    return batched(feeds, repeated, batch) if batch else feeds


def _measure(
    opened: Session, feeds: Mapping[str, Any], phases: dict[str, float], *, runs: int, warmup: int, streams: int
) -> _Measured:
    """Compile and run; ``phases`` has those before."""
    from mace_core.cli.measuring import time_runs
    from mace_core.cli.output import progress

    start = time.perf_counter()
    with progress("Compiling"):
        opened.prepare({name: value.shape for name, value in feeds.items()})
    compiled = time.perf_counter() - start
    with progress("Running"):
        start = time.perf_counter()
        opened.run(feeds)
        first = time.perf_counter() - start
        warm = time_runs(opened, feeds, runs=runs, warmup=warmup, streams=streams)
        profiles = [opened.profile(feeds) for _ in range(min(runs, PROFILED_RUNS))]
    phases = {**phases, "compile": compiled, "first run": first}
    return _Measured(phases, warm, profiles, opened.explain(), peak_memory_bytes(), opened.measure_peaks())


def _as_data(found: _Measured, steps: Sequence[StepTime], macs: int, batch: int) -> dict[str, Any]:
    from mace_core.cli.placement import placement_data
    from mace_core.report.step_times import by_type

    return {
        "seconds": {name.replace(" ", "_"): value for name, value in found.times.items()},
        "latency_seconds": found.warm.as_data(),
        "inferences_per_second": found.warm.inferences_per_second(batch),
        "peak_memory_bytes": found.memory,
        "macs": macs,
        "gmac_per_second": found.speed(macs),
        "peak_gmac_per_second": {name: peak / 1e9 for name, peak in found.peaks.items()},
        "placement": placement_data(found.explanation),
        "steps": [step.as_data() for step in steps],
        "by_type": [row.as_data() for row in by_type(steps)],
    }


def _print_times(title: str, found: _Measured, throughput: float) -> None:
    from mace_core.cli.benchmark_tables import phases_table
    from mace_core.cli.output import format_bytes, print_folded, print_table

    print_table(phases_table(title, found.times))
    print_folded(f"throughput: {throughput:.1f} inferences/s")
    print_folded(f"peak memory: {format_bytes(found.memory)}")


def _print_speed(macs: int, speed: float, peaks: Mapping[str, float]) -> None:
    from mace_core.cli.output import print_folded

    if macs:
        print_folded(f"multiply-accumulates: {macs / 1e9:.3f} G a run, {speed:.1f} GMAC/s (warm runs)")
    for name, peak in peaks.items():
        share = f"; warm runs reach {speed * 1e9 / peak:.0%} of it" if macs else ""
        print_folded(f"peak of {name}: {peak / 1e9:.1f} GMAC/s of float32 (measured){share}")


def _print_operations(steps: Sequence[StepTime], found: Explanation, options: OutputOptions) -> None:
    from mace_core.cli.benchmark_tables import steps_table, types_table
    from mace_core.cli.output import print_folded, print_line, print_table
    from mace_core.cli.placement import placement_lines
    from mace_core.report.step_times import by_type

    longest = sorted(steps, key=lambda step: -step.seconds)
    tables = [steps_table("operations in the order they ran", steps, steps)] if options.all_rows else []
    tables += [steps_table("operations, the longest first", longest, steps), types_table(by_type(steps), steps)]
    for table in tables:
        print_line()
        print_table(options.shown(table))
    print_line()
    for line in placement_lines(found):
        print_folded(line)


def peak_memory_bytes() -> int:
    """The most memory this process ever held."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _write_pictures(found: _Measured, facts: ModelFacts, model: str, trace: Path | None, timeline: Path | None) -> None:
    virtual = list(found.explanation.virtual)
    if trace is not None:
        from mace_core.report.trace import write_trace

        write_trace(trace, found.profiles, facts, model, virtual)
    if timeline is not None:
        from mace_core.report.timeline import write_timeline

        usual = sorted(found.profiles, key=lambda profile: profile.duration_ns)[(len(found.profiles) - 1) // 2]
        write_timeline(timeline, usual, facts, model, virtual)


def _import_seconds() -> float:
    """What ``from mace_core import Session`` costs in a fresh process, numpy included."""
    from mace_core.host.children import python_command

    code = "import time; t = time.perf_counter(); from mace_core import Session; print(time.perf_counter() - t)"
    done = subprocess.run(python_command(code), capture_output=True, text=True)
    if done.returncode == -signal.SIGINT or "KeyboardInterrupt" in done.stderr[-200:]:  # Ctrl-C reached it first
        raise KeyboardInterrupt
    if done.returncode:
        raise MaceError(f"importing mace_core in a fresh process failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)
