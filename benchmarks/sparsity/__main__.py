"""``python -m benchmarks.sparsity``: 2:4 layers beside dense ones of the same shape, in turn, in one process."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.sparsity.layers import PRODUCTS, RESNET50, Layer, model_of, weights_of
from mace_core.session import Session
from mace_core.sparsity.patterns import Pattern

ROUNDS = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    chosen = _parser().parse_args(arguments)
    pattern = Pattern.parse(chosen.pattern, chosen.shared, by_tap=chosen.by_tap)
    layers = [layer for layer in (*RESNET50, *PRODUCTS) if chosen.only in str(layer)]
    table = Table(title=f"{pattern} shared by {pattern.shared}, {chosen.precision}, {chosen.threads} thread(s)")
    for column in ("layer", "count", "dense µs", "sparse µs", "ratio", "dense kernel", "sparse kernel"):
        table.add_column(column, justify="left" if column.endswith(("layer", "kernel")) else "right")
    rows = []
    sums = [0.0, 0.0]
    for layer in layers:
        (dense, dense_name), (sparse, sparse_name) = measure(
            layer, pattern, chosen.threads, chosen.seconds, chosen.precision
        )
        sums = [sums[0] + layer.count * dense, sums[1] + layer.count * sparse]
        rows.append({"layer": str(layer), "count": layer.count, "dense_us": dense, "sparse_us": sparse})
        ratio = f"{dense / sparse:.2f}"
        table.add_row(str(layer), str(layer.count), f"{dense:.1f}", f"{sparse:.1f}", ratio, dense_name, sparse_name)
    screen = Console(width=160)
    screen.print(table)
    ratios = [row["dense_us"] / row["sparse_us"] for row in rows if row["count"]]
    if ratios:
        mean = math.exp(sum(math.log(ratio) for ratio in ratios) / len(ratios))
        screen.print(
            f"all layers of ResNet-50: {sums[0] / 1e3:.2f} ms dense, {sums[1] / 1e3:.2f} ms sparse: "
            f"{sums[0] / sums[1]:.2f} times as fast; geometric mean {mean:.2f}, least {min(ratios):.2f}"
        )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps({"threads": chosen.threads, "pattern": str(pattern), "rows": rows}, indent=1))
    return 0


def measure(
    layer: Layer, pattern: Pattern, threads: int, seconds: float, precision: str = "float32"
) -> list[tuple[float, str]]:
    """Microseconds of the layer's own steps and their name, dense and sparse: minima over runs that take turns."""
    sessions = []
    for wanted in (None, pattern):
        model, feeds = model_of(layer, weights_of(layer, wanted), precision)
        sessions.append((Session(model, devices=["cpu"], strict=True, options={"cpu": {"threads": threads}}), feeds))
    best: list[tuple[float, str]] = [(math.inf, "")] * 2
    for _ in range(ROUNDS):
        for at, (session, feeds) in enumerate(sessions):
            end = time.perf_counter() + seconds / (2 * ROUNDS)
            while True:
                spans = [span for span in session.profile(feeds).spans if "layer" in span.source]
                found = sum(span.duration_ns for span in spans) / 1e3
                best[at] = min(best[at], (found, " + ".join(span.name for span in spans)))
                if time.perf_counter() > end:
                    break
    for session, _ in sessions:
        session.close()
    return best


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparsity", description=__doc__)
    parser.add_argument("--pattern", default="2:4", help="N:M")
    parser.add_argument("--shared", type=int, default=32, help="output channels that share a pattern")
    parser.add_argument("--precision", choices=("float32", "int8"), default="float32")
    parser.add_argument("--by-tap", action="store_true", help="each tap of a kernel has a pattern of its own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.4, help="per layer")
    parser.add_argument("--only", default="", help="layers whose name has this in it")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
