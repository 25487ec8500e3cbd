"""Times one engine on one model in this process and prints one JSON line.  Started afresh by ``compare.py``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=["mace", "onnxruntime"])
    parser.add_argument("model")
    parser.add_argument("--input", required=True, help="npz with the inputs by name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5)
    arguments = parser.parse_args()
    feeds = dict(np.load(arguments.input))
    start = time.perf_counter()
    run = OPENERS[arguments.engine](arguments.model, arguments.threads, feeds)
    loaded = time.perf_counter()
    run()
    first = time.perf_counter()
    for _ in range(arguments.warmup):
        run()
    spent = []
    for _ in range(arguments.runs):
        before = time.perf_counter()
        run()
        spent.append((time.perf_counter() - before) * 1000)
    print(  # noqa: T201
        json.dumps(
            {
                "load_ms": (loaded - start) * 1000,
                "first_ms": (first - loaded) * 1000,
                "median_ms": float(np.median(spent)),
                "min_ms": min(spent),
            }
        )
    )


def open_mace(model: str, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    import mace_core as mace

    session = mace.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
    return lambda: session.run(feeds)


def open_onnxruntime(model: str, threads: int, feeds: dict[str, np.ndarray]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds)


OPENERS: dict[str, Callable[[str, int, dict[str, np.ndarray]], Run]] = {
    "mace": open_mace,
    "onnxruntime": open_onnxruntime,
}

if __name__ == "__main__":
    main()
