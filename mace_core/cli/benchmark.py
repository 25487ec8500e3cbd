"""`mace benchmark`: how long each phase and each operation takes."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target
from mace_core.errors import MaceError

if TYPE_CHECKING:
    from mace_core.cli.model_facts import ModelFacts
    from mace_core.cli.profile_table import StepTime
    from mace_core.scheduler.explain import Explanation
    from mace_core.scheduler.profile import Profile
    from mace_core.session import Session

PROFILED_RUNS = 5
TOP_STEPS = 10


@shared_options
def benchmark(
    model: Model,
    *,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Warm runs to time.")] = 20,
    warmup: Annotated[
        int, typer.Option("--warmup", metavar="N", min=0, help="Runs before them that do not count.")
    ] = 3,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE.json",
            help="Write what each thread did when, for chrome://tracing or ui.perfetto.dev.",
            show_default=False,
        ),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option("--timeline", metavar="FILE.svg", help="The same as a picture, of one run.", show_default=False),
    ] = None,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Time a model: import, load, compile, first run, warm runs, memory, and each operation.

    The first run of a model ever also compiles its kernels; `mace cache clear` brings that state back. Operations are
    timed in runs of their own after the others. Their speed in multiply-accumulates a second is compared with what
    the same threads reach in a loop of nothing but float32 multiply-adds (% of peak).

    Examples:

      mace benchmark model.onnx --threads 1 --runs 50

      mace benchmark model.onnx --shape x=1x3x48x320 --device cpu --json

      mace benchmark model.onnx --trace trace.json --timeline timeline.svg
    """
    from mace_core.cli.model_facts import model_facts
    from mace_core.cli.output import print_line, progress
    from mace_core.cli.placement import placement_data
    from mace_core.cli.profile_table import by_type, step_times

    check_target("--trace", trace, (".json",))
    check_target("--timeline", timeline, (".svg",))
    times = {"import": _import_seconds()}
    start = time.perf_counter()
    with session.open(model) as opened:
        times["load"] = time.perf_counter() - start
        feeds = inputs.feeds(opened, fill=True)
        start = time.perf_counter()
        with progress("Compiling"):
            opened.prepare({name: value.shape for name, value in feeds.items()})
        times["compile"] = time.perf_counter() - start
        with progress("Running"):
            times["first run"] = _timed(opened, feeds)
            for _ in range(warmup):
                opened.run(feeds)
            warm = sorted(_timed(opened, feeds) for _ in range(runs))
            profiles = [opened.profile(feeds) for _ in range(min(runs, PROFILED_RUNS))]
        found = opened.explain()
        memory = peak_memory_bytes()
        peaks = opened.measure_peaks()
    times |= {"warm median": statistics.median(warm), "warm min": warm[0], "warm p90": _percentile(warm, 0.9)}
    facts = model_facts(model, feeds)
    steps = step_times(profiles, facts, peaks)
    total_macs = sum(facts.macs.values())
    speed = total_macs / times["warm median"] / 1e9
    _write_pictures(profiles, facts, model, trace, timeline)
    findings = {
        "model": model,
        "threads": session.threads or None,
        "runs": runs,
        "seconds": {name.replace(" ", "_"): value for name, value in times.items()},
        "peak_memory_bytes": memory,
        "macs": total_macs,
        "gmac_per_second": speed,
        "peak_gmac_per_second": {name: peak / 1e9 for name, peak in peaks.items()},
        "placement": placement_data(found),
        "steps": [step.as_data() for step in steps],
        "by_type": [row.as_data() for row in by_type(steps)],
    }

    def text() -> None:
        _print_summary(model, runs, times, memory, total_macs, speed, peaks)
        _print_operations(steps, found)
        for written in filter(None, (trace, timeline)):
            print_line(f"{written} written")

    output.deliver("benchmark", findings, text)


def _print_summary(
    model: str,
    runs: int,
    times: Mapping[str, float],
    memory: int,
    macs: int,
    speed: float,
    peaks: Mapping[str, float],
) -> None:
    from mace_core.cli.output import format_bytes, print_line, print_table

    rows = [(name, f"{value * 1000:.3f}") for name, value in times.items()]
    print_table(f"{model}, {runs} warm runs", ("phase", "ms"), rows, numbers=(1,))
    print_line(f"peak memory: {format_bytes(memory)}")
    if macs:
        print_line(f"multiply-accumulates: {macs / 1e9:.3f} G a run, {speed:.1f} GMAC/s (warm median)")
    for name, peak in peaks.items():
        share = f"; a warm run reaches {speed * 1e9 / peak:.0%} of it" if macs else ""
        print_line(f"peak of {name}: {peak / 1e9:.1f} GMAC/s of float32 (measured){share}")


def _print_operations(steps: Sequence[StepTime], found: Explanation) -> None:
    from mace_core.cli.output import print_line
    from mace_core.cli.placement import placement_lines
    from mace_core.cli.profile_table import by_type

    _print_steps("operations in the order they ran", steps, steps)
    longest = sorted(steps, key=lambda s: -s.seconds)[:TOP_STEPS]
    _print_steps(f"the {len(longest)} that took longest", longest, steps)
    _print_types(by_type(steps), steps)
    for line in placement_lines(found):
        print_line(line)


def peak_memory_bytes() -> int:
    """The most memory this process ever held."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _print_steps(title: str, steps: Sequence[StepTime], all_steps: Sequence[StepTime]) -> None:
    from mace_core.cli import output

    rows = [
        (str(step.position), step.name, step.kind, step.shape, step.device, *_figures(step, all_steps))
        for step in steps
    ]
    columns = ("#", "operation", "type", "shape", "device", *_FIGURES)
    output.print_table(title, columns, rows, numbers=(0, *range(5, 5 + len(_FIGURES))))


def _print_types(types: Sequence[StepTime], all_steps: Sequence[StepTime]) -> None:
    from mace_core.cli import output

    rows = [(str(row.count), row.kind, row.device, *_figures(row, all_steps)) for row in types]
    columns = ("steps", "type", "device", *_FIGURES)
    output.print_table("by type", columns, rows, numbers=(0, *range(3, 3 + len(_FIGURES))))


_FIGURES = ("ms", "%", "MMAC", "GMAC/s", "% of peak")


def _figures(step: StepTime, all_steps: Sequence[StepTime]) -> tuple[str, ...]:
    total = sum(each.seconds for each in all_steps) or 1.0
    return (
        f"{step.seconds * 1000:.4f}",
        f"{step.seconds / total * 100:.1f}",
        f"{step.macs / 1e6:.2f}" if step.macs else "",
        f"{step.speed / 1e9:.1f}" if step.speed else "",
        f"{step.share_of_peak * 100:.0f}" if step.share_of_peak else "",
    )


def _write_pictures(
    profiles: Sequence[Profile], facts: ModelFacts, model: str, trace: Path | None, timeline: Path | None
) -> None:
    if trace is not None:
        from mace_core.cli.trace import write_trace

        write_trace(trace, profiles, facts, model)
    if timeline is not None:
        from mace_core.cli.timeline import write_timeline

        usual = sorted(profiles, key=lambda profile: profile.duration_ns)[(len(profiles) - 1) // 2]
        write_timeline(timeline, usual, facts, model)


def _timed(session: Session, feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - start


def _percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest value that ``fraction`` of the sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * fraction * 1000) // 1000) - 1))]


def _import_seconds() -> float:
    """What ``from mace_core import Session`` costs in a fresh process, numpy included."""
    from mace_core.children import python_command

    code = "import time; t = time.perf_counter(); from mace_core import Session; print(time.perf_counter() - t)"
    done = subprocess.run(python_command(code), capture_output=True, text=True)
    if done.returncode == -signal.SIGINT or "KeyboardInterrupt" in done.stderr[-200:]:  # Ctrl-C reached it first
        raise KeyboardInterrupt
    if done.returncode:
        raise MaceError(f"importing mace_core in a fresh process failed: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout)
