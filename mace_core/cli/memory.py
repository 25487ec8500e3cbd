"""`mace memory`: what a process that runs a model holds in memory, and since when."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target
from mace_core.errors import MaceError, ModelFileError, UsageError
from mace_core.presentation.chart_page import SUFFIXES

if TYPE_CHECKING:
    from mace_core.measurement import MemoryReport


@shared_options
def memory(
    model: Model,
    *,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1, help="Runs after the first one.")] = 20,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="FILE.html|FILE.svg",
            help="Draw memory over time: as a page with all tables, or as a picture.",
            show_default=False,
        ),
    ] = None,
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Show what a process that runs a model holds in memory: files, prepared weights, code, arenas, Python.

    The model is loaded, run and closed in a process of its own, which is looked at after each step. PSS counts a page
    that several processes use in parts; private memory is what ending the process would give back. Linux only tells
    them; elsewhere there is the resident memory alone.

    Examples:

      mace memory model.onnx

      mace memory model.onnx --device cpu --threads 1 --runs 100 --chart memory.html

      mace memory model.mace --json
    """
    from mace_core.cli.memory_tables import charts, notes, tables
    from mace_core.cli.output import print_folded, print_line, print_table
    from mace_core.presentation.chart_page import write_charts

    check_target("--chart", chart, SUFFIXES)
    found = _observed(model, session, inputs, runs)
    title = f"{model}: memory"
    if chart is not None:
        write_charts(chart, title, notes(found), charts(found), tables(found))

    def text() -> None:
        for place, table in enumerate(tables(found)):
            if place:
                print_line()
            print_table(table)
        print_line()
        for note in notes(found):
            print_folded(note)
        if chart is not None:
            print_folded(f"{chart} written")

    output.deliver("memory", {"chart": None if chart is None else str(chart), **found.as_data()}, text)


def _observed(model: str, session: SessionOptions, inputs: InputOptions, runs: int) -> MemoryReport:
    from mace_core.cli.custom_ops import imported_sources
    from mace_core.cli.memory_child import CODE
    from mace_core.cli.output import progress
    from mace_core.frontend.exporters.trust import are_trusted
    from mace_core.host.children import ChildFailedError, ask_child
    from mace_core.measurement import MemoryReport
    from mace_core.measurement.model_files import model_files

    files, weight_bytes = model_files(model)
    given = asdict(inputs)
    question: dict[str, Any] = {
        "model": model,
        "files": [str(path) for path in files],
        "runs": runs,
        "custom_ops": imported_sources(),
        "trust": are_trusted(),
        "inputs": {**given, "npz": None if inputs.npz is None else str(inputs.npz)},
        "session": {
            "devices": session.devices,
            "options": session.provider_options,
            "strict": session.strict,
            "pins": session.pins,
            "policy": session.policy or None,
        },
    }
    try:
        with progress("Running"):
            data = ask_child(CODE, question)
    except ChildFailedError as error:
        raise MaceError(f"'{model}': the process that ran the model failed: {error}; try `mace run {model}`") from None
    if "error" in data:
        kinds = {"UsageError": UsageError, "ModelFileError": ModelFileError}
        raise kinds.get(data["error"], MaceError)(data["message"])
    found = MemoryReport.from_data(data)
    found.weight_bytes = weight_bytes
    return found
