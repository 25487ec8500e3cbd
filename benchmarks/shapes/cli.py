"""Measures the cases beside other engines, each in fresh processes that take turns, and prints a table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.compare.machine import describe, wait_for_quiet
from benchmarks.shapes.cases import CASES, Case
from benchmarks.shapes.worker import ENGINES

_ROOT = Path(__file__).resolve().parents[2]
_REFERENCE = "onnxruntime"
KINDS = {**{name: name for name in ENGINES}, "onnxruntime-io": "onnxruntime"}
"""Engines, and the packages they come from; the last one keeps state with onnxruntime's IOBinding."""
_TOLERANCE = 1e-3
"""Share of an output's range by which results may differ from the reference's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; 1 where results disagree or a process fails."""
    chosen = _parser().parse_args(arguments)
    screen = Console(stderr=True)
    engines = [name for name in chosen.engine or KINDS if name == "mace" or importlib.util.find_spec(KINDS[name])]
    cases = [CASES[name] for name in chosen.case or CASES]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, Progress(console=screen, transient=True) as progress:
        folder = Path(chosen.folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        task = progress.add_task("shapes", total=len(cases) * len(engines) * chosen.rounds)
        for case in cases:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
            for _ in range(chosen.rounds):
                for engine in engines:
                    if engine not in ENGINES and not case.pairs:
                        continue  # a way of keeping state, where there is none
                    progress.update(task, description=f"{case.name} on {engine}", advance=1)
                    if chosen.wait_quiet:
                        wait_for_quiet(chosen.wait_quiet, lambda text: progress.update(task, description=text))
                    found[engine].append(_measure(case, engine, chosen.threads, folder, Path(scratch)))
            rows.append(_row(case, found, Path(scratch)))
    Console(width=None if sys.stdout.isatty() else 120).print(_table(rows, engines, chosen.threads))
    machine = describe()
    sys.stdout.write(f"{machine['processor']}, {machine['usable_cores']} cores, {machine['system']}\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["problem"] for row in rows) else 0


def _measure(case: Case, engine: str, threads: int, folder: Path, scratch: Path) -> dict[str, Any]:
    """The figures of one process; ``{"error": …}`` where it fails."""
    command = [sys.executable, "-m", "benchmarks.shapes.worker", case.name, engine, str(threads), str(folder)]
    environment = {**os.environ, "MACE_CACHE_DIR": str(scratch / "cache")}
    done = subprocess.run(
        [*command, str(scratch / f"{case.name}-{engine}.npz")],
        cwd=_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _row(case: Case, found: dict[str, list[dict[str, Any]]], scratch: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case.name, "title": case.title, "unit": case.unit, "problem": ""}
    for engine, processes in found.items():
        errors = [process["error"] for process in processes if "error" in process]
        if not processes:
            continue
        if errors:
            row[engine] = {"error": errors[0]}
            if engine in ("mace", _REFERENCE):
                row["problem"] = errors[0]
            continue
        row[engine] = {
            key: statistics.median(process[key] for process in processes) for key in ("new_ms", "worst_ms", "kept_ms")
        }
    if not row["problem"] and _REFERENCE in found:
        row["difference"] = _difference(scratch / f"{case.name}-mace.npz", scratch / f"{case.name}-{_REFERENCE}.npz")
        if not row["difference"] <= _TOLERANCE:
            row["problem"] = f"results differ by {row['difference']:.1e} of their range"
    return row


def _difference(ours: Path, theirs: Path) -> float:
    """The largest difference of any output, as a share of the output's range."""
    worst = 0.0
    with np.load(ours) as found, np.load(theirs) as expected:
        for name in expected.files:
            a, b = found[name].astype(np.float64), expected[name].astype(np.float64)
            if a.shape != b.shape:
                return float("inf")
            if a.size:
                worst = max(worst, float(np.abs(a - b).max() / max(float(np.ptp(b)), 1e-6)))
    return worst


def _table(rows: Sequence[dict[str, Any]], engines: Sequence[str], threads: int) -> Table:
    table = Table(title=f"one run whose shape is new / was run just before, ms, {threads} threads")
    table.add_column("case")
    for engine in engines:
        table.add_column(engine, justify="right", no_wrap=True)
    table.add_column("ratio, new", justify="right")
    table.add_column("ratio, kept", justify="right")
    for row in rows:
        cells = [row["title"]]
        for engine in engines:
            figures = row.get(engine)
            if figures is None:
                cells.append("-")
                continue
            cells.append("failed" if "error" in figures else f"{figures['new_ms']:.3f} / {figures['kept_ms']:.3f}")
        ours, theirs = row.get("mace", {}), row.get(_REFERENCE, {})
        for key in ("new_ms", "kept_ms"):
            cells.append(f"{ours[key] / theirs[key]:.2f}" if key in ours and key in theirs else "-")
        table.add_row(*cells)
        if row["problem"]:
            table.add_row(f"  {row['problem']}", style="red")
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes", description=__doc__)
    parser.add_argument("--case", action="append", choices=list(CASES), help="measure this case (all by default)")
    parser.add_argument("--engine", action="append", choices=list(KINDS), help="measure this engine")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each figure, of which the median counts")
    parser.add_argument(
        "--wait-quiet", type=float, default=0, metavar="SECONDS", help="wait for other processes to rest"
    )
    parser.add_argument("--folder", help="keeps the models")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser
