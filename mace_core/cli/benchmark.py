"""`mace benchmark`: how long each phase and each operation takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Devices, Json, Model, ProviderOptions, Shapes, Strict, Threads

if TYPE_CHECKING:
    from mace_core.cli.profile_table import StepTime
    from mace_core.session import Session

PROFILED_RUNS = 5
TOP_STEPS = 10


def benchmark(
    model: Model,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Warm runs to time.")] = 20,
    warmup: Annotated[
        int, typer.Option("--warmup", metavar="N", min=0, help="Runs before them that do not count.")
    ] = 3,
    shape: Shapes = [],  # noqa: B006 - typer copies it
    device: Devices = [],  # noqa: B006
    strict: Strict = False,
    threads: Threads = 0,
    option: ProviderOptions = [],  # noqa: B006
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the random inputs.")] = 0,
    as_json: Json = False,
) -> None:
    """Time a model on random input: import, load, compile, first run, warm runs, memory, and each operation.

    The first run of a model ever also compiles its kernels; `mace cache clear` brings that state back. Operations are
    timed in runs of their own after the others.

    Examples:

      mace benchmark model.onnx --threads 1 --runs 50

      mace benchmark model.onnx --shape x=1x3x48x320 --device cpu --json
    """
    from mace_core.cli import output
    from mace_core.cli.inputs import gather_inputs
    from mace_core.cli.pictures import PictureOptions
    from mace_core.cli.placement import placement_data, placement_lines
    from mace_core.cli.profile_table import by_type, step_times
    from mace_core.cli.sessions import open_session

    times = {"import": _import_seconds()}
    start = time.perf_counter()
    with open_session(model, devices=device, strict=strict, threads=threads, provider_options=option) as session:
        times["load"] = time.perf_counter() - start
        feeds = gather_inputs(session.inputs, files=[], shapes=shape, random=True, seed=seed, picture=PictureOptions())
        start = time.perf_counter()
        with output.progress("Compiling"):
            session.prepare({name: value.shape for name, value in feeds.items()})
        times["compile"] = time.perf_counter() - start
        with output.progress("Running"):
            times["first run"] = _timed(session, feeds)
            for _ in range(warmup):
                session.run(feeds)
            warm = sorted(_timed(session, feeds) for _ in range(runs))
            profiles = [session.profile(feeds) for _ in range(min(runs, PROFILED_RUNS))]
        found = session.explain()
        memory = peak_memory_bytes()
    times |= {"warm median": statistics.median(warm), "warm min": warm[0], "warm p90": _percentile(warm, 0.9)}
    macs, operators = _model_facts(model, feeds)
    steps = step_times(profiles, macs, operators)
    total_macs = sum(macs.values())
    speed = total_macs / times["warm median"] / 1e9
    if as_json:
        output.print_json(
            {
                "model": model,
                "threads": threads or None,
                "runs": runs,
                "seconds": {name.replace(" ", "_"): value for name, value in times.items()},
                "peak_memory_bytes": memory,
                "macs": total_macs,
                "gmac_per_second": speed,
                "placement": placement_data(found),
                "steps": [step.as_data() for step in steps],
                "by_type": [row.as_data() for row in by_type(steps)],
            }
        )
        return
    rows = [(name, f"{value * 1000:.3f}") for name, value in times.items()]
    output.print_table(f"{model}, {runs} warm runs", ("phase", "ms"), rows, numbers=(1,))
    output.print_line(f"peak memory: {output.format_bytes(memory)}")
    if total_macs:
        output.print_line(f"multiply-accumulates: {total_macs / 1e9:.3f} G a run, {speed:.1f} GMAC/s (warm median)")
    _print_steps("operations in the order they ran", "#", steps, steps)
    longest = sorted(steps, key=lambda s: -s.seconds)[:TOP_STEPS]
    _print_steps(f"the {len(longest)} that took longest", "#", longest, steps)
    _print_steps("by type", "steps", by_type(steps), steps)
    for line in placement_lines(found):
        output.print_line(line)


def peak_memory_bytes() -> int:
    """The most memory this process ever held."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _print_steps(title: str, first_column: str, steps: Sequence[StepTime], all_steps: Sequence[StepTime]) -> None:
    from mace_core.cli import output

    total = sum(step.seconds for step in all_steps) or 1.0
    columns = (first_column, "operation", "type", "device", "ms", "%", "MMAC", "GMAC/s")
    rows = [
        (
            str(step.position) if step.position is not None else str(step.count),
            step.name,
            step.kind,
            step.device,
            f"{step.seconds * 1000:.4f}",
            f"{step.seconds / total * 100:.1f}",
            f"{step.macs / 1e6:.2f}" if step.macs else "",
            f"{step.macs / step.seconds / 1e9:.1f}" if step.macs and step.seconds else "",
        )
        for step in steps
    ]
    output.print_table(title, columns, rows, numbers=(0, 4, 5, 6, 7))


def _timed(session: Session, feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - start


def _percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest value that ``fraction`` of the sorted values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * fraction * 1000) // 1000) - 1))]


def _import_seconds() -> float:
    """What ``from mace_core import Session`` costs in a fresh process, numpy included."""
    code = "import time; t = time.perf_counter(); from mace_core import Session; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _model_facts(model: str, feeds: dict[str, Any]) -> tuple[dict[str, int], dict[str, str]]:
    """Multiply-accumulates and operator by node name, of the model as it stands in the file."""
    from mace_core.cli.profile_table import operators_of
    from mace_core.frontend.load import load_model
    from mace_core.graph.macs import graph_macs
    from mace_core.graph.shapes import resolve
    from mace_core.tensor import DType, TensorType

    graph = load_model(model)
    types = {
        value: TensorType(DType.from_numpy(feeds[value.name].dtype), feeds[value.name].shape) for value in graph.inputs
    }
    resolution = resolve(graph, types)
    return graph_macs(graph, resolution.types), operators_of(graph)
