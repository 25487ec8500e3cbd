"""`mace profile`: a page that shows where a model runs, when, with how much memory, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target


@shared_options
def profile(
    model: Model,
    *,
    page: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.html",
            help="The page. Default: the model's name with .profile.html, in the working directory.",
            show_default=False,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE.json",
            help="Also write all profiled runs for chrome://tracing or ui.perfetto.dev.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=1, help="Warm runs to time, and profiled runs after them.")
    ] = 5,
    warmup: Annotated[
        int, typer.Option("--warmup", metavar="N", min=0, help="Runs before them, which do not count.")
    ] = 3,
    graph: Annotated[
        bool, typer.Option("--graph/--no-graph", help="Whether the page shows the graph; laying it out needs netron.")
    ] = True,
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Profile a model and write a page that shows the result.

    The page shows the graph colored by device, what each device and thread did when, memory over time, predicted and
    measured costs, and a table of all operations. It is one file, and works offline. The picture of the graph needs
    `pip install 'mace-core[profile]'`.

    Inputs that no file is given for are random.

    Examples:

      mace profile model.onnx

      mace profile model.onnx --device npu --device cpu -o model.html --trace model.json

      mace profile model.onnx --shape x=1x3x48x320 --policy throughput --runs 20 --json
    """
    from mace_core.cli.output import format_bytes, print_folded, progress
    from mace_core.cli.placement import placement_data, placement_lines
    from mace_core.report import MemorySamples, layout_library, measure, write_page, write_trace

    target = page if page is not None else Path(f"{Path(model).stem}.profile.html")
    check_target("--output", target, (".html", ".htm"))
    check_target("--trace", trace, (".json",))
    if graph:
        layout_library()  # said before the measuring has taken its time
    with MemorySamples() as samples:
        samples.mark("load")
        with session.open(model) as opened:
            feeds = inputs.feeds(opened, fill=True)
            samples.mark("compile")
            with progress("Compiling"):
                opened.prepare({name: value.shape for name, value in feeds.items()})
            with progress("Running"):
                found = measure(opened, model, feeds, runs=runs, warmup=warmup, label=Path(model).name, samples=samples)
    with progress(f"Writing {target}"):
        write_page(target, found, graph=graph)
        if trace is not None:
            write_trace(trace, found.profiles, found.facts, model, list(found.explanation.virtual))
    steps = found.steps
    findings = {
        "model": model,
        "page": str(target),
        "trace": None if trace is None else str(trace),
        "runs": runs,
        "latency_seconds": list(found.latencies),
        "measures_speed": not found.explanation.virtual,
        "memory": {
            "peak_alive_bytes": found.memory.peak_bytes,
            "weight_bytes": found.facts.weight_bytes,
            "peak_resident_bytes": max(size for _, size in found.samples),
            "arena_bytes": {arena.location: arena.nbytes for arena in found.explanation.arenas},
        },
        "placement": placement_data(found.explanation),
        "partitions": [
            {
                "device": part.device,
                "nodes": len(part.nodes),
                "predicted_seconds": part.predicted_seconds,
                "measured_seconds": part.measured_seconds,
            }
            for part in found.explanation.partitions
        ],
        "choices": list(found.explanation.choices),
        "steps": [step.as_data() for step in steps],
    }

    def text() -> None:
        for device, name in found.explanation.virtual.items():
            print_folded(f"NOT A MEASURE OF SPEED: {device} is virtual ({name})")
        median = sorted(found.latencies)[(runs - 1) // 2]
        alive = format_bytes(found.memory.peak_bytes)
        print_folded(f"{model}: {median * 1e3:.3f} ms (median of {runs} warm runs), {len(steps)} steps")
        print_folded(f"at most {alive} of inputs and results alive at once")
        for line in placement_lines(found.explanation):
            print_folded(line)
        for written in filter(None, (target, trace)):
            print_folded(f"{written} written")

    output.deliver("profile", findings, text)
