"""Requests one by one, and the same in batches: answers a second.  Run as ``python -m benchmarks.batching MODEL``.

All requests are asked for at once, so that every batch is full; ``direct`` is `Session.run` in a loop, ``one run`` the
same rows in one run.  The best of several rounds counts, in which the ways take turns.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Any

import numpy as np

from mace_core import Session


def measure(session: Session, feeds: dict[str, Any], requests: int, batch: int, rounds: int) -> dict[str, float]:
    """Requests a second of each way."""
    whole = {name: np.concatenate([array] * batch) for name, array in feeds.items()}
    session.batching(max_batch=batch, max_delay=0.01)
    batched, session._batcher = session._batcher, None

    def queued() -> None:
        wait([session.run_async(feeds) for _ in range(requests)])

    def direct() -> None:
        for _ in range(requests):
            session.run(feeds)

    def one_run() -> None:
        for _ in range(requests // batch):
            session.run(whole)

    def in_batches() -> None:
        session._batcher = batched
        queued()
        session._batcher = None

    ways: dict[str, Callable[[], None]] = {
        "direct": direct,
        "one by one": queued,
        "batched": in_batches,
        "one run": one_run,
    }
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: requests / seconds for name, seconds in best.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--shape", action="append", default=[], help="of an input, for one request: x=1x3x48x320")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    shapes = {name: tuple(map(int, sizes.split("x"))) for name, sizes in (text.split("=") for text in chosen.shape)}
    random = np.random.default_rng(0)
    with Session(chosen.model, devices=["cpu"], options={"cpu": {"threads": chosen.threads}}) as session:
        shapes = {**session.assume_shapes().shapes, **shapes}
        feeds = {
            spec.name: random.uniform(-1, 1, shapes[spec.name]).astype(np.float32)
            if spec.dtype is not None and spec.dtype.is_float
            else np.ones(shapes[spec.name], None if spec.dtype is None else spec.dtype.numpy)
            for spec in session.inputs
        }
        found = measure(session, feeds, chosen.requests, chosen.batch, chosen.rounds)
    for name, rate in found.items():
        sys.stdout.write(f"{name:<12}{rate:10.1f} requests a second {rate / found['one by one']:6.2f}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
