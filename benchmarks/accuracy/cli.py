"""`python -m benchmarks.accuracy`: the figures of merit of trained models, in float and quantized."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.task import Array, Run, Task, cache_folder
from mace_core import Session
from mace_core.quantization import Quantizer, Settings


def tasks() -> list[Task]:
    """All of them."""
    from benchmarks.accuracy.depthwise import UnevenDepthwise
    from benchmarks.accuracy.digits import Digits
    from benchmarks.accuracy.photos import Photos
    from benchmarks.accuracy.sentences import Sentences
    from benchmarks.accuracy.super_resolution import SuperResolution
    from benchmarks.accuracy.text_lines import TextLines
    from benchmarks.accuracy.voice import Voice

    return [Digits(), UnevenDepthwise(), Voice(), Photos(), TextLines(), SuperResolution(), Sentences()]


ENGINES = ("mace", "onnxruntime")


def open_engine(engine: str, path: Path, threads: int) -> Run:
    """Runs a model file in an engine."""
    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        other = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [output.name for output in other.get_outputs()]
        return lambda feeds: dict(zip(names, other.run(None, dict(feeds)), strict=True))
    session = Session(path, devices=["cpu"], options={"cpu": {"threads": threads}})
    return lambda feeds: session.run(feeds)


def measure(task: Task, settings: Mapping[str, Any], engine: str, threads: int) -> dict[str, Any]:
    """Quantize the model of a task, and score it in float and quantized."""
    source = task.model()
    target = cache_folder() / f"{task.name}.quantized.onnx"
    begin = time.perf_counter()
    more = {} if task.max_drop is None else {"accuracy": task.accuracy, "max_drop": task.max_drop}
    found = Quantizer(source, Settings(**settings)).run(target, data=task.calibration, **more)
    seconds = time.perf_counter() - begin
    reference = open_engine("mace", source, threads)
    run = open_engine(engine, target, threads)
    before, after = task.score(reference, reference), task.score(run, reference)
    naive = {}
    if task.naive is not None:
        simple = cache_folder() / f"{task.name}.naive.onnx"
        Quantizer(source, Settings(**task.naive)).run(simple, data=task.calibration)
        naive = task.score(open_engine(engine, simple, threads), reference)
    lost = before[task.metric] - after[task.metric]
    return {
        "task": task.name,
        "metric": task.metric,
        "settings": dict(settings),
        "float": before,
        "quantized": after,
        "naive": naive,
        "kept_in_float": found.judged.kept if found.judged is not None else [],
        "lost": lost,
        "allowed": task.allowed,
        "least": dict(task.least),
        "kept": lost <= task.allowed and all(after[name] >= least for name, least in task.least.items()),
        "bytes": [source.stat().st_size, target.stat().st_size],
        "quantizing_seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if every task keeps what it is asked to, else 1."""
    known = {task.name: task for task in tasks()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--task", action="append", choices=known, help="one task; may be repeated")
    parser.add_argument("--engine", choices=ENGINES, default="mace", help="what runs the quantized model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scheme", help="default: what the task says, else int8")
    parser.add_argument("--algorithm", help="default: what the task says, else minmax")
    parser.add_argument("--rounding", help="default: what the task says, else nearest")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args(arguments)
    asked = {key: value for key in ("scheme", "algorithm", "rounding") if (value := getattr(given, key)) is not None}
    rows = []
    for name in given.task or known:
        row = measure(known[name], {**known[name].settings, **asked}, given.engine, given.threads)
        rows.append(row)
        tell(row, sys.stdout.write)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["kept"] for row in rows) else 1


def tell(row: Mapping[str, Any], write: Callable[[str], object]) -> None:
    """A task's figures in lines."""
    before, after = row["bytes"]
    verdict = "kept" if row["kept"] else "MISSED"
    write(
        f"{row['task']}: {before / 1e6:.1f} -> {after / 1e6:.1f} MB, quantized in {row['quantizing_seconds']:.0f} s\n"
    )
    for name, figure in row["quantized"].items():
        naive = f", naive {row['naive'][name]:.2f}" if row["naive"] else ""
        write(f"  {name}: float {row['float'][name]:.2f}, quantized {figure:.2f}{naive}\n")
    if row["kept_in_float"]:
        write(f"  in float: {', '.join(row['kept_in_float'])}\n")
    asked = "".join(f", at least {least:g} of {name}" for name, least in row["least"].items())
    write(f"  lost {row['lost']:.2f}, allowed {row['allowed']:.2f}{asked}: {verdict}\n")


__all__ = ["Array", "main", "measure", "open_engine", "tasks"]
