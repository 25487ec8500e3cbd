"""``python -m mace_testing.fuzz``: random nodes and graphs on a provider, against two other implementations."""

from __future__ import annotations

import argparse
import collections
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mace_core.errors import PluginError
from mace_core.provider import find_device
from mace_core.provider.registry import default_registry
from mace_testing.fuzzing.campaign import Findings
from mace_testing.fuzzing.graphs import GRAPH
from mace_testing.fuzzing.keep import keep_failure
from mace_testing.fuzzing.page import judges_page
from mace_testing.fuzzing.registry import covered
from mace_testing.fuzzing.verdict import Outcome
from mace_testing.fuzzing.workers import Round, run_rounds

EXAMPLES_A_ROUND = 30
GRAPHS_A_ROUND = 5
EXAMPLE_DEVICES = ("acme:sim0",)
FAILURES_AN_OPERATOR = 3
"""After that many an operator is not tried again: more of the same help nobody."""


GRAPHS_HELP = (
    "devices that random graphs are spread over, with commas (default: the provider, the reference and, where it is "
    "installed, the simulator of the example vendor); '--op graph' runs these alone"
)


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if something failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m mace_testing.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default 30)")
    parser.add_argument("--op", action="append", default=[], help="only this operator (may be given more than once)")
    parser.add_argument("--seed", type=int, default=0, help="where the random choices start (default 0)")
    parser.add_argument("--provider", default="cpu", help="provider or provider:device (default cpu)")
    parser.add_argument("--graphs-on", default="", metavar="DEVICES", help=GRAPHS_HELP)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where failing cases are written")
    parser.add_argument("--judges-page", type=Path, metavar="FILE", help="write what is known of the judges, and stop")
    options = parser.parse_args(arguments)
    console = Console()
    if options.judges_page is not None:
        options.judges_page.write_text(judges_page(), encoding="utf-8")
        return 0
    known = [("", GRAPH), *sorted(covered())]
    chosen = [key for key in known if not options.op or key[1] in options.op]
    unknown = sorted(set(options.op) - {op for _, op in chosen})
    if unknown:
        console.print(f"there is no strategy for {', '.join(unknown)}")
        return 2
    return _run(options, chosen, _devices(options), console)


def _devices(options: argparse.Namespace) -> list[str]:
    """Qualified names, the provider under test first."""
    registry = default_registry()
    others = options.graphs_on.split(",") if options.graphs_on else ["reference", *EXAMPLE_DEVICES]
    names = [
        options.provider,
        *(name for name in others if options.graphs_on or name.split(":")[0] in registry.names()),
    ]
    found: dict[str, None] = {}
    for name in names:
        try:
            found[find_device(name, registry).qualified_name] = None
        except PluginError:
            if name not in EXAMPLE_DEVICES or options.graphs_on:
                raise  # what was asked for; the example vendor is only there to help
    return list(found)


def _run(options: argparse.Namespace, chosen: list[tuple[str, str]], devices: list[str], console: Console) -> int:
    start = time.monotonic()
    seconds = options.minutes * 60
    failures: collections.Counter[tuple[str, str]] = collections.Counter()
    found: dict[tuple[str, str], list[Findings]] = collections.defaultdict(list)

    def rounds() -> Iterator[Round]:
        for seed in itertools.count(options.seed * 1_000_000 + 1):
            for domain, op in chosen:
                if time.monotonic() - start > seconds:
                    return
                if failures[domain, op] < FAILURES_AN_OPERATOR:
                    yield op, domain, seed, GRAPHS_A_ROUND if op == GRAPH else EXAMPLES_A_ROUND
            if all(failures[key] >= FAILURES_AN_OPERATOR for key in chosen):
                return

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("fuzzing", total=seconds)
        examples = 0
        for findings in run_rounds(rounds(), devices, jobs=options.jobs):
            key = (findings.domain, findings.op)
            found[key].append(findings)
            examples += findings.examples
            progress.update(
                task, completed=time.monotonic() - start, description=f"{examples} examples, now {findings.op}"
            )
            if findings.error:
                failures[key] += 1
                console.print(f"[red]the strategy of {findings.op} is broken[/red]\n{findings.error}")
            if findings.failure is not None:
                failures[key] += 1
                case, verdict = findings.failure
                path = keep_failure(case, verdict, options.failures, findings.seed)
                console.print(
                    f"[red]{verdict.outcome.value}[/red] {case!r}\n   {verdict.detail}\n   {path}", soft_wrap=True
                )
    console.print(_table(found))
    console.print(_summary(found, time.monotonic() - start), soft_wrap=True)
    return int(failures.total() > 0)


def _table(found: dict[tuple[str, str], list[Findings]]) -> Table:
    """Counts per operator, and why the provider declined most often."""
    table = Table("operator", *(outcome.value for outcome in Outcome), "declined because", title="examples")
    for (domain, op), items in sorted(found.items()):
        counts = sum((collections.Counter(f.outcomes) for f in items), collections.Counter())
        refusals = sum((collections.Counter(f.refusals) for f in items), collections.Counter())
        reason = refusals.most_common(1)[0][0] if refusals else ""
        name = f"{domain}::{op}" if domain else op
        table.add_row(name, *(str(counts[outcome] or "") for outcome in Outcome), reason)
    return table


def _summary(found: dict[tuple[str, str], list[Findings]], seconds: float) -> str:
    counts = sum((collections.Counter(f.outcomes) for items in found.values() for f in items), collections.Counter())
    total = sum(counts.values())
    parts = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)
    return f"{total} examples of {len(found)} operators in {seconds:.0f} s: {parts}"


if __name__ == "__main__":
    sys.exit(main())
