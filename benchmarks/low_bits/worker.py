"""One engine on one chain, in a process of its own: ``worker ENGINE THREADS FILE SECONDS``, figures as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[dict[str, np.ndarray]], np.ndarray]


def open_mace(model: Path, threads: int) -> Run:
    """The CPU provider alone."""
    import mace_core

    session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
    return lambda feeds: next(iter(session.run(feeds).values()))


def open_onnxruntime(model: Path, threads: int) -> Run:
    """onnxruntime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    found: Run = lambda feeds: session.run(None, feeds)[0]  # noqa: E731 - as the other engine's
    return found


ENGINES: dict[str, Callable[[Path, int], Run]] = {"mace": open_mace, "onnxruntime": open_onnxruntime}


def measure(engine: str, threads: int, model: Path, seconds: float) -> dict[str, Any]:
    """Seconds of the fastest run, the result, and by how much the process grew, at its largest."""
    __import__({"mace": "mace_core", "onnxruntime": "onnxruntime"}[engine])
    feeds = dict(np.load(model.with_suffix(".npz")))
    before = _peak_bytes()
    run = ENGINES[engine](model, threads)
    result = run(feeds)
    fastest, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        run(feeds)
        fastest = min(fastest, time.perf_counter() - start)
    return {"seconds": fastest, "result": result.reshape(-1)[:64].tolist(), "grown": _peak_bytes() - before}


def _peak_bytes() -> int:
    """The largest resident size of this program so far; that of ``getrusage`` counts the parent's, too."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell the peak of a process")


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))))  # noqa: T201
