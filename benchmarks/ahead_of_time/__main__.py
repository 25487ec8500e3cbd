"""``python -m benchmarks.ahead_of_time``: sizes of libraries for each target; time and start-up on this machine."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from rich.console import Console
from rich.table import Table

import mace_core as mace
from mace_core.ahead_of_time import TARGET_NAMES, Library, build_library
from mace_core.testing import models
from mace_core.testing.models import PP_OCR_CLS, PP_OCR_REC, find_packaged_model

HERE = Path(__file__).parent
ROUNDS = 5
STARTS = 20


@dataclass(frozen=True)
class Model:
    """A model, and the shape of its input."""

    write: Callable[[Path], Path]
    shape: tuple[int, ...]


def _kit(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / f"{name}.onnx"
        onnx.save(getattr(models, name)(), path)
        return path

    return write


MODELS = {
    "mobilenet_v2": Model(_kit("mobilenet_v2"), (1, 3, 224, 224)),
    "squeezenet1_1": Model(_kit("squeezenet1_1"), (1, 3, 224, 224)),
    "resnet50": Model(_kit("resnet50"), (1, 3, 224, 224)),
    "pp_ocr_rec": Model(lambda folder: find_packaged_model(*PP_OCR_REC), (1, 3, 48, 320)),
    "pp_ocr_cls": Model(lambda folder: find_packaged_model(*PP_OCR_CLS), (1, 3, 48, 192)),
}


@dataclass(frozen=True)
class Times:
    """Milliseconds of a run: the quickest by the clock, and the median of what all processors together did."""

    wall: float
    used: float


@dataclass(frozen=True)
class Started:
    """Milliseconds: making an instance, the first run, and a process from its start to its end with one run in it."""

    made: float
    first: float
    process: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ahead_of_time", description=__doc__)
    parser.add_argument("--model", action="append", choices=MODELS, help="may be repeated (default: all)")
    parser.add_argument("--target", action="append", choices=TARGET_NAMES, help="may be repeated (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30, help=f"in each of {ROUNDS} rounds (default 30)")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    names, targets = options.model or list(MODELS), options.target or list(TARGET_NAMES)
    sizes = Table("model", "target", "kernels", "code", "weights", "tables", "lib.a", "lib.so", title="sizes in KiB")
    speed = Table(
        *("model", "session", "library", "share", "session (processors)", "library", "share"),
        *("instance", "first run", "process"),
        title=f"{options.threads} thread(s), ms: quickest runs, medians of processor time and of {STARTS} starts",
    )
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            folder = Path(temporary)
            path = MODELS[name].write(folder)
            for target in targets:
                console.print(f"{name} for {target} …", style="dim")
                library = _built(path, name, folder, target)
                sizes.add_row(name, target, str(library.kernels), *map(_kibibytes, _parts(library)))
            host = _built(path, name, folder, "host")
            session, program, started = _timed(path, MODELS[name], host, options.threads, options.runs)
            speed.add_row(
                name,
                *(f"{session.wall:.2f}", f"{program.wall:.2f}", f"{program.wall / session.wall:.3f}"),
                *(f"{session.used:.2f}", f"{program.used:.2f}", f"{program.used / session.used:.3f}"),
                *(f"{started.made:.2f}", f"{started.first:.2f}", f"{started.process:.2f}"),
            )
    console.print(sizes)
    console.print(speed)
    return 0


def _built(path: Path, name: str, folder: Path, target: str) -> Library:
    proto = onnx.load(path, load_external_data=False)
    return build_library(
        path, folder / name, target=target, name="timed", shapes={proto.graph.input[0].name: MODELS[name].shape}
    )


def _parts(library: Library) -> tuple[int, ...]:
    return library.code_bytes, library.weight_bytes, library.table_bytes, library.archive_bytes, library.shared_bytes


def _kibibytes(count: int) -> str:
    return f"{count / 1024:,.0f}"


def _timed(path: Path, model: Model, library: Library, threads: int, runs: int) -> tuple[Times, Times, Started]:
    """Session and library by turns, so that what else the machine does meets both."""
    program = library.folder / "timed"
    archive = library.folder / f"lib/host/lib{library.name}.a"
    command = [
        "g++",
        "-std=c++17",
        "-O2",
        f"-DMODEL={library.models[0].symbol}_model",
        f"-I{library.folder / 'include'}",
    ]
    subprocess.run([*command, HERE / "timing.cpp", archive, "-pthread", "-lm", "-o", program], check=True)
    mine: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with mace.Session(path, devices=["cpu"], options={"cpu": {"threads": threads}}) as session:
        feeds = {session.inputs[0].name: np.full(model.shape, 0.5, np.float32)}
        session.run(feeds)
        for _ in range(ROUNDS):
            for _ in range(runs):
                wall, used = time.perf_counter_ns(), time.process_time_ns()
                session.run(feeds)
                mine.append((time.perf_counter_ns() - wall, time.process_time_ns() - used))
            theirs += _program(program, threads, runs)[1:]
    starts, processes = [], []
    for _ in range(STARTS):
        before = time.perf_counter_ns()
        starts.append(_program(program, threads, 0)[0])
        processes.append(time.perf_counter_ns() - before)
    median = statistics.median
    started = Started(median(s[0] for s in starts) / 1e6, median(s[1] for s in starts) / 1e6, median(processes) / 1e6)
    return _summary(mine), _summary(theirs), started


def _program(program: Path, threads: int, runs: int) -> list[tuple[float, float]]:
    done = subprocess.run([program, str(threads), str(runs)], capture_output=True, text=True, check=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return [(float(first), float(second)) for first, second in rows]


def _summary(times: list[tuple[float, float]]) -> Times:
    walls, used = zip(*times, strict=True)
    return Times(min(walls) / 1e6, statistics.median(used) / 1e6)


if __name__ == "__main__":
    sys.exit(main())
