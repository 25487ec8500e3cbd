"""Times MACE beside onnxruntime in one run and prints the ratio of the medians.

    python benchmarks/compare.py [--model mobilenet_v2 --model resnet50 --model rec] [--threads 1 --threads 2]

Every measurement is a fresh process; the engines take turns, so that a machine whose speed drifts slows both.  Inputs
are pictures, not noise: noise through random weights can drive activations into denormals.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mace_core.testing import models

ENGINES = ("mace", "onnxruntime")
WORKER = Path(__file__).with_name("worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=[*MODELS], help="default: all")
    parser.add_argument("--threads", action="append", type=int, help="default: 1 and 2")
    parser.add_argument("--rounds", type=int, default=3, help="processes per engine, model and thread count")
    parser.add_argument("--runs", type=int, default=30, help="timed runs per process")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    names = arguments.model or [*MODELS]
    threads = arguments.threads or [1, 2]
    console = Console()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(name, count) for name in names for count in threads]
        for name, count in track(jobs, "timing", console=Console(stderr=True), transient=True):
            model, inputs = prepare(name, Path(folder))
            rows.append(measure(name, model, inputs, count, arguments.rounds, arguments.runs))
    console.print(to_table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def picture(height: int, width: int) -> np.ndarray:
    """A picture-like (1, 3, H, W) array: smooth shapes of several scales, normalised as classifiers want it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    planes = np.zeros((3, height, width), np.float32)
    for octave in range(1, 7):
        angle, phase = rng.uniform(0, np.pi, 3), rng.uniform(0, 2 * np.pi, 3)
        for channel in range(3):
            wave = x * np.cos(angle[channel]) + y * np.sin(angle[channel])
            planes[channel] += np.sin(wave * (2**octave) * np.pi / max(height, width) + phase[channel]) / octave
    return planes[None]


def prepare(name: str, folder: Path) -> tuple[Path, Path]:
    """Model file and input file of a named benchmark."""
    model = MODELS[name](folder)
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    height, width = SIZES.get(name, (224, 224))
    inputs = folder / f"{name}.npz"
    np.savez(inputs, **{graph.input[0].name: picture(height, width)})
    return model, inputs


def built(name: str, folder: Path) -> Path:
    """Write a seeded network."""
    import onnx

    path = folder / f"{name}.onnx"
    if not path.exists():
        onnx.save(getattr(models, name)(), str(path))
    return path


MODELS = {
    "mobilenet_v2": lambda folder: built("mobilenet_v2", folder),
    "resnet50": lambda folder: built("resnet50", folder),
    "rec": lambda folder: models.find_packaged_model(*models.PP_OCR_REC),
}
SIZES = {"rec": (48, 320)}


def measure(name: str, model: Path, inputs: Path, threads: int, rounds: int, runs: int) -> dict[str, object]:
    """Medians over all rounds of both engines, taking turns."""
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            command = [sys.executable, str(WORKER), engine, str(model), "--input", str(inputs)]
            command += ["--threads", str(threads), "--runs", str(runs)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{engine} failed on {name}:\n{done.stderr}")
            found[engine].append(json.loads(done.stdout))
    row: dict[str, object] = {"model": name, "threads": threads}
    for engine, results in found.items():
        for key in ("median_ms", "min_ms", "load_ms", "first_ms"):
            row[f"{engine}_{key}"] = float(np.median([result[key] for result in results]))
    row["ratio"] = row["mace_median_ms"] / row["onnxruntime_median_ms"]  # type: ignore[operator]
    return row


def to_table(rows: list[dict[str, object]]) -> Table:
    table = Table(title="median ms per run, batch 1; ratio below 1: MACE is faster")
    for heading in (
        "model",
        "threads",
        "mace",
        "onnxruntime",
        "ratio",
        "mace load + first",
        "onnxruntime load + first",
    ):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        starts = [f"{row[f'{e}_load_ms'] + row[f'{e}_first_ms']:.0f}" for e in ENGINES]  # type: ignore[operator]
        medians = [f"{row[f'{e}_median_ms']:.2f}" for e in ENGINES]
        table.add_row(str(row["model"]), str(row["threads"]), *medians, f"{row['ratio']:.2f}", *starts)
    return table


if __name__ == "__main__":
    main()
