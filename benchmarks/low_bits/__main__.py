"""``python -m benchmarks.low_bits``: how fast packed weights are read, as a share of what memory gives."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

from benchmarks.compare.machine import describe, wait_for_quiet
from benchmarks.low_bits.bandwidth import read_bandwidth
from benchmarks.low_bits.models import Chain
from benchmarks.low_bits.worker import ENGINES

TOLERANCE = {0: 1e-4, 4: 5e-2}
"""Share of the largest result by which engines may differ, by the nodes' accuracy level."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 where the engines disagree."""
    chosen = _parser().parse_args(arguments)
    chain = Chain(chosen.size, chosen.bits, chosen.block, chosen.count, chosen.rows, chosen.accuracy_level)
    screen = Console(width=None if sys.stdout.isatty() else 120)
    machine = describe()
    screen.print(f"{machine['processor']}, {machine['usable_cores']} cores, {machine['system']}", highlight=False)
    table = Table(
        title=f"{chain.count} products with {chain.size}x{chain.size} of {chain.bits} bits, {chain.rows} rows"
    )
    for name in ("threads", "memory GB/s", "engine", "µs each", "GB/s", "of memory", "grown / file"):
        table.add_column(name, justify="right")
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "chain.onnx"
        onnx.save(chain.model(), model)
        np.savez(model.with_suffix(".npz"), **chain.sample())
        for threads in chosen.threads:
            wait_for_quiet(chosen.wait_quiet, lambda _: None)
            memory = read_bandwidth(threads)
            found = {engine: _measure(engine, threads, model, chosen) for engine in ENGINES}
            for engine, row in found.items():
                each = row["seconds"] / chain.count
                speed = chain.weight_bytes / each
                grown = row["grown"] / model.stat().st_size
                cells = (f"{each * 1e6:.0f}", f"{speed / 1e9:.1f}", f"{speed / memory:.0%}", f"{grown:.2f}")
                table.add_row(str(threads), f"{memory / 1e9:.1f}", engine, *cells)
            results = [np.array(row["result"]) for row in found.values()]
            limit = TOLERANCE.get(chain.accuracy_level, 1e-4) * np.abs(results[1]).max()
            agree &= bool(np.abs(results[0] - results[1]).max() <= limit)
    screen.print(table)
    if not agree:
        screen.print("The engines disagree.")
    return 0 if agree else 1


def _measure(engine: str, threads: int, model: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """The fastest of some processes."""
    command = [sys.executable, "-m", "benchmarks.low_bits.worker", engine, str(threads), str(model)]
    rounds = []
    for _ in range(chosen.rounds):
        wait_for_quiet(chosen.wait_quiet, lambda _: None)
        ran = subprocess.run([*command, str(chosen.seconds)], check=True, capture_output=True, text=True)
        rounds.append(json.loads(ran.stdout))
    best: dict[str, Any] = min(rounds, key=lambda row: float(row["seconds"]))
    return best


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_bits", description=__doc__)
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of each matrix")
    parser.add_argument("--bits", type=int, default=4, choices=(2, 4, 8))
    parser.add_argument("--block", type=int, default=32, help="weights that share a scale")
    parser.add_argument("--count", type=int, default=16, help="matrices, more than caches hold")
    parser.add_argument("--rows", type=int, default=1, help="of the input")
    parser.add_argument("--accuracy-level", type=int, default=0, help="4: activations may be rounded to 8 bits")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2, help="processes for each figure")
    parser.add_argument("--seconds", type=float, default=1.5, help="how long each process repeats its run")
    parser.add_argument("--wait-quiet", type=float, default=0, help="seconds to wait for an idle machine")
    return parser


if __name__ == "__main__":
    sys.exit(main())
