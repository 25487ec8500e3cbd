"""The process of one measurement: opens a model on one engine, runs it, writes one line of JSON.

    python -m benchmarks.compare.worker ENGINE MODEL INPUTS.npz THREADS RUNS SECONDS OUTPUT_NAMES [OUTPUTS.npz]

Nothing but numpy and the inputs is loaded before the clock starts: the start is the engine's import, loading
the model and the first result.  All engines run from byte code, as installed packages do, and with warm caches: the
process that compares results comes first and leaves both.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.compare.engines import ENGINES, Job, Run

_LEAST_RUNS = 5
"""However long they take."""


def main() -> None:
    engine, model, inputs, threads, runs, seconds, output_names, *save = sys.argv[1:]
    with np.load(inputs) as stored:
        feeds = {name: np.ascontiguousarray(stored[name]) for name in stored.files}
    base = peak_memory_bytes()
    job = Job(model, int(threads), feeds, output_names.split(","))
    start = time.perf_counter()
    run = ENGINES[engine].open(job)
    opened = time.perf_counter()
    outputs = [np.array(output, copy=True) for output in run()]
    first = time.perf_counter()
    found: dict[str, object] = {
        "open_ms": (opened - start) * 1e3,
        "first_ms": (first - opened) * 1e3,
        "start_ms": (first - start) * 1e3,
    }
    if int(runs):
        _timed(run, max(3, int(runs) // 10), float(seconds) / 4)
        spent = _timed(run, int(runs), float(seconds))
        found |= {"median_ms": statistics.median(spent), "min_ms": min(spent), "runs": len(spent)}
    found |= {"peak_bytes": peak_memory_bytes(), "base_bytes": base}
    if save:
        np.savez(save[0], *outputs)
    sys.stdout.write(json.dumps(found) + "\n")


def _timed(run: Run, runs: int, seconds: float) -> list[float]:
    """Milliseconds of each run: ``runs`` of them, fewer when they take over ``seconds``, more when they are so short
    that they take less than a tenth of that."""
    spent: list[float] = []
    start = now = time.perf_counter()
    while True:
        run()
        before, now = now, time.perf_counter()
        spent.append((now - before) * 1e3)
        passed = now - start
        if (len(spent) >= runs and passed >= seconds / 10) or (len(spent) >= _LEAST_RUNS and passed >= seconds):
            return spent


def peak_memory_bytes() -> int:
    """The most memory this process ever held.

    Linux keeps the figure that `resource` gives across exec, so that it would be that of the process which started this
    one, where that was larger.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # another system
    from mace_core.cli.benchmark import peak_memory_bytes as peak

    return peak()


if __name__ == "__main__":
    main()
