"""The options of `python -m benchmarks.compare`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.compare.catalogue import CATALOGUE, Benchmark
from benchmarks.compare.engines import ENGINES, LITE, MACE
from benchmarks.compare.measure import ProcessFailedError, Settings, compare, steps
from benchmarks.compare.precision import PRECISIONS
from benchmarks.compare.report import report
from mace_core.errors import MaceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; 1 if MACE has no figures for a model or it was stopped, 2 if there is nothing to compare."""
    chosen = _parser().parse_args(arguments)
    screen = Console(stderr=True)
    settings = Settings(
        benchmarks=_benchmarks(chosen.model, chosen.precision),
        engines=_engines(chosen.engine, chosen.precision),
        threads=chosen.threads or [1, 2],
        rounds=chosen.rounds,
        runs=chosen.runs,
        seconds=chosen.seconds,
        tolerance=chosen.tolerance,
        wait_quiet=chosen.wait_quiet,
        features=chosen.features,
        precision=chosen.precision,
        folder=chosen.folder or _default_folder(),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=screen, transient=True, refresh_per_second=2) as progress:
            task = progress.add_task("starting", total=steps(settings))

            def told(text: str) -> None:
                progress.update(task, description=text, advance=0 if text.startswith("waiting") else 1)
                if not screen.is_terminal:
                    screen.print(text)

            found = compare(settings, told)
        sys.stdout.write(report(found))
        if chosen.json:
            chosen.json.write_text(json.dumps(found.as_data(), indent=2) + "\n", encoding="utf-8")
        if chosen.chart:
            from benchmarks.compare.chart import write_chart

            write_chart(found, chosen.chart)
    except (MaceError, ProcessFailedError) as error:
        screen.print(f"error: {error}", style="red")
        return 2
    ours = [row.cells[MACE] for row in found.rows if MACE in row.cells]
    return 1 if found.stopped or any(not cell.ran for cell in ours) else 0


def _benchmarks(names: Sequence[str] | None, precision: str) -> list[Benchmark]:
    """Those that are named, else all that are for this precision."""
    if names:
        return [CATALOGUE[name] for name in names]
    return [benchmark for benchmark in CATALOGUE.values() if precision in benchmark.precisions]


def _engines(names: Sequence[str] | None, precision: str) -> list[str]:
    """Those that are named, else all that read what is measured."""
    if names:
        return [name for name in ENGINES if name in names]
    return [name for name, engine in ENGINES.items() if precision not in LITE or engine.reads_lite]


def _default_folder() -> Path:
    from mace_core.caching.cache import cache_dir

    return cache_dir() / "benchmarks"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Times MACE beside the other engines that are installed, in fresh processes that take turns.",
        epilog="Example: python -m benchmarks.compare --model resnet50 --threads 1 --rounds 5 --wait-quiet 60",
    )
    parser.add_argument("--model", action="append", choices=[*CATALOGUE], help="may be repeated; default: all")
    parser.add_argument(
        *("--precision",),
        choices=PRECISIONS,
        default="float32",
        help="int8: quantized models; tflite: trained .tflite files; tflite-int8: from LiteRT's quantizer "
        "(default: float32)",
    )
    parser.add_argument("--engine", action="append", choices=[*ENGINES], help="may be repeated; default: all")
    parser.add_argument("--threads", action="append", type=_positive, help="may be repeated; default: 1 and 2")
    parser.add_argument("--rounds", type=_positive, default=3, help="processes per figure (default: 3)")
    parser.add_argument("--runs", type=_positive, default=30, help="timed runs per process (default: 30)")
    parser.add_argument("--seconds", type=float, default=2.0, help="a process stops timing after so long (default: 2)")
    parser.add_argument("--tolerance", type=float, default=1e-2, help="a peer further off is not timed (default: 1e-2)")
    parser.add_argument(
        *("--wait-quiet",),
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for other processes to be idle, and repeat disturbed measurements",
    )
    parser.add_argument("--features", default="", help='instruction sets MACE may use, such as "avx2" (default: all)')
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--chart", type=Path, metavar="FILE.png", help="draw the ratios; needs matplotlib")
    parser.add_argument("--folder", type=Path, help="where models are kept (default: the cache folder)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number
