"""A stranger's models: what TensorFlow's converter makes, in MACE and in LiteRT, in one table.

    python -m venv tensorflow && tensorflow/bin/pip install tensorflow-cpu
    python -m benchmarks.tflite_trial FOLDER --tensorflow tensorflow/bin/python
    python -m benchmarks.tflite_trial FOLDER --only 'conv/.*int8'

Networks of keras.applications, Keras layers one by one, functions, control flow and state, each in the forms that the
converter knows, with random weights and fixed seeds.  The models stay in FOLDER: without ``--tensorflow`` those there
are compared.  Floats may differ by 1e-5 of an output's range, quantized numbers by one step.  The exit code is 3 if a
model differs by more, ends the process, or fails in MACE alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import selectors
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tflite_agreement import AS_FAR, STEPS, TOLERANCE
from mace_core.presentation import Column, Table, number, prose

LIMIT_S = 240
"""Of one model."""
ROOT = Path(__file__).parents[2]
WORKER = (sys.executable, "-m", "benchmarks.tflite_trial.worker")


def verdict(result: dict[str, Any], *, form: str) -> str:
    """In a few words; those in capitals are faults."""
    ours, theirs = result.get("mace"), result.get("litert")
    if ours and theirs:
        return f"refused by both: {ours}"
    if ours:
        return f"FAILS: {ours}"
    if theirs:
        return f"runs; LiteRT: {theirs}"
    if result.get("off_cpu"):
        return f"OFF THE CPU: {result['off_cpu']} nodes"
    if result.get("wrong"):
        return f"WRONG: {result['wrong']}"
    own = result.get("own", {})
    if form == "int8_float" and 0 < result.get("relative", 0) <= 1 / 250 and not result.get("steps"):
        return "ok: a step of 8 bits"
    if form == "int16x8" and STEPS < result.get("steps", 0) <= result.get("nodes", 0) / 4:
        return f"ok: steps of 65,536, after {result['nodes']} nodes"
    if result.get("steps", 0) > max(STEPS, own.get("steps", 0)) or result.get("relative", 0) > max(
        TOLERANCE, own.get("relative", 0)
    ):
        ours, theirs = result.get("exact", (1.0, 0.0))
        if ours <= AS_FAR * theirs and result.get("steps", 0) <= STEPS:
            return f"ok: from the exact result MACE is {ours:.1e} off, LiteRT {theirs:.1e}"
        return "FAR"
    if result.get("steps", 0) > STEPS or result.get("relative", 0) > TOLERANCE:
        return "ok: LiteRT's own kernels are as far from each other"
    return "ok"


def verdict_of(name: str, result: dict[str, Any]) -> str:
    """`verdict` of a model by its name."""
    return verdict(result, form=name.rsplit(".", 1)[-1])


def compare(files: Sequence[Path], *, timed: bool) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each model in a process that others follow in, until one ends it."""
    process: subprocess.Popen[str] | None = None
    for file in files:
        if process is None or process.poll() is not None:
            process = _worker(timed=timed)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{file}\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(LIMIT_S) else ""
        if line:
            yield file, json.loads(line)
            continue
        try:
            code, running = process.wait(1), False
        except subprocess.TimeoutExpired:
            process.kill()
            code, running = process.wait(), True
        process = None
        end = f"a hang of {LIMIT_S} s" if running else f"the end of the process, exit code {code}"
        alone = subprocess.run([*WORKER, "--alone"], input=f"{file}\n", capture_output=True, text=True, cwd=ROOT)
        yield file, {"litert": end} if alone.returncode == 0 else {"mace": f"CRASH or HANG: {end}"}
    if process is not None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _worker(*, timed: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*WORKER, *(["--timed"] if timed else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )


def generate(folder: Path, python: Path, only: str) -> None:
    """Let another Python write the models."""
    from PIL import Image

    from benchmarks.accuracy.photo_files import calibration_photos

    folder.mkdir(parents=True, exist_ok=True)
    photos = folder / "photos.npy"
    if not photos.exists():
        pictures = [Image.open(file).convert("RGB").resize((224, 224)) for file in calibration_photos()[:8]]
        np.save(photos, np.stack([np.asarray(picture) for picture in pictures]))
    settings = {"PHOTOS": str(photos.resolve()), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    subprocess.run(
        [str(python), "-m", "benchmarks.tflite_trial.generate", str(folder.resolve()), "--only", only],
        check=True,
        cwd=ROOT,
        env={**os.environ, **settings},
    )


def table(rows: Sequence[tuple[str, dict[str, Any]]]) -> Table:
    """One row for each model."""

    def figure(result: dict[str, Any], name: str, pattern: str) -> str:
        return "" if result.get(name) is None else pattern.format(result[name])

    columns = [number(name) for name in ("floats off by", "steps off", "transposes", "MACE µs", "LiteRT µs")]
    return Table(
        [Column("model"), *columns, prose("verdict")],
        [
            (
                name,
                figure(result, "relative", "{:.1e}"),
                figure(result, "steps", "{}"),
                figure(result, "transposes", "{}"),
                figure(result, "mace_us", "{:.0f}"),
                figure(result, "litert_us", "{:.0f}"),
                verdict_of(name, result) + (f" (longest, µs: {result['top']})" if "top" in result else ""),
            )
            for name, result in rows
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks.tflite_trial", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tensorflow", type=Path, help="a Python with TensorFlow, which writes the models first")
    parser.add_argument("--only", default="", help="a regular expression that names of models have to match")
    parser.add_argument("--faults", action="store_true", help="rows of faults alone")
    parser.add_argument("--untimed", action="store_true", help="agreement alone")
    parser.add_argument("--json", type=Path, help="where all that was found is written")
    given = parser.parse_args(arguments)
    if given.tensorflow is not None:
        generate(given.folder, given.tensorflow.absolute(), given.only)
    files = [
        file
        for file in sorted(given.folder.resolve().rglob("*.tflite"))
        if re.search(given.only, _name(file, given.folder))
    ]
    if not files:
        parser.error(f"no models in {given.folder}: --tensorflow PYTHON makes them")
    rows = []
    for file, result in compare(files, timed=not given.untimed):
        name = _name(file, given.folder)
        sys.stderr.write(f"{name}: {verdict_of(name, result)}\n")
        rows.append((name, result))
    if given.json is not None:
        given.json.write_text(json.dumps(dict(rows), indent=1))
    faults = [(name, result) for name, result in rows if verdict_of(name, result).split(":")[0].isupper()]
    sys.stdout.write(f"{table(faults if given.faults else rows).text()}\n")
    sys.stdout.write(f"{len(rows)} models, {len(faults)} faults\n")
    return 3 if faults else 0


def _name(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder.resolve()).with_suffix(""))


if __name__ == "__main__":
    sys.exit(main())
