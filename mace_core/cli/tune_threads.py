"""`mace tune-threads`: how many threads a model runs best with on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import InputOptions, OutputOptions, ReadingOptions, SessionOptions, shared_options
from mace_core.cli.written_files import check_target
from mace_core.errors import UsageError
from mace_core.presentation.chart_page import SUFFIXES

if TYPE_CHECKING:
    from mace_core.measurement import Candidate, ThreadAdvice
    from mace_core.session import Session


@shared_options
def tune_threads(
    model: Model,
    *,
    most: Annotated[
        int,
        typer.Option("--most", metavar="N", min=0, help="Threads to try up to; 0 for as many as the machine allows."),
    ] = 0,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", min=3, help="Turns of each candidate; more tell finer differences.")
    ] = 12,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="FILE.html|FILE.svg",
            help="Draw latency and throughput over the number of threads.",
            show_default=False,
        ),
    ] = None,
    reading: ReadingOptions,
    session: SessionOptions,
    inputs: InputOptions,
    output: OutputOptions,
) -> None:
    """Measure a model with 1, 2, … threads, and say how many to use for latency and for throughput.

    The candidates take turns, in another order in each round, and are compared round by round: differences that noise
    explains are told as none. Throughput is that of as many runs side by side as leave each thread a processor. On
    machines with fast and efficient processors, the fast ones alone are tried too. What a run costs is told in
    processor time, and in joules where the processor's counters may be read.

    Examples:

      mace tune-threads model.onnx

      mace tune-threads model.onnx --shape x=1x3x48x320 --rounds 30 --chart threads.html --json
    """
    from mace_core.cli.output import progress
    from mace_core.measurement import candidates_for, compare_threads

    check_target("--chart", chart, SUFFIXES)
    if session.threads:
        raise UsageError("--threads fixes what this command looks for; --most N limits what it tries")
    limit, big = _limits(most)

    def open_session(candidate: Candidate) -> Session:
        from mace_core.session import Session

        given = session.provider_options or {}
        own = {**given.get("cpu", {}), "threads": candidate.threads, "affinity": candidate.affinity}
        return Session(
            model,
            devices=session.devices or ["cpu"],
            options={**given, "cpu": own},
            strict=session.strict,
            pins=session.pins,
            policy=session.policy or None,
        )

    with progress("Measuring"):
        found = compare_threads(
            open_session,
            lambda opened: inputs.feeds(opened, fill=True),
            candidates_for(limit, big),
            rounds=rounds,
            most=limit,
        )
    _deliver(model, found, chart, output)


def _deliver(model: str, found: ThreadAdvice, chart: Path | None, output: OutputOptions) -> None:
    from mace_core.cli.output import print_folded, print_table
    from mace_core.cli.thread_tables import charts, conclusions, table
    from mace_core.presentation.chart_page import write_charts

    said = conclusions(found)
    if chart is not None:
        write_charts(chart, f"{model}: threads", said, charts(found), [table(model, found)])

    def text() -> None:
        print_table(table(model, found))
        for sentence in said:
            print_folded(sentence)
        if chart is not None:
            print_folded(f"{chart} written")

    findings = {"model": model, "conclusions": said, "chart": None if chart is None else str(chart), **found.as_data()}
    output.deliver("tune-threads", findings, text)


def _limits(most: int) -> tuple[int, int]:
    """Threads to try up to, and how many fast processors there are where there are efficient ones too."""
    from mace_core.host.processors import choose_processors
    from mace_core.host.threads import default_threads

    allowed = default_threads()
    limit = min(most, allowed) if most else allowed
    big = choose_processors("big").processors
    return limit, 0 if big is None else min(limit, len(big))
