"""Runs examples in processes of their own, so that a case that kills its process is a finding and not the end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Queue
from typing import Any

from mace_core.host.children import safe_spawn
from mace_testing.fuzzing.campaign import Findings, explore
from mace_testing.fuzzing.verdict import Outcome, Verdict

LONGEST_ROUND_SECONDS = 300.0

Round = tuple[str, str, int, int]
"""Operator, domain, seed, number of examples."""


def run_rounds(rounds: Iterator[Round], devices: Sequence[str], *, jobs: int = 1) -> Iterator[Findings]:
    """Findings of each round, in the order in which they are done; ``rounds`` is drawn from as workers get free."""
    done: Queue[Findings | None] = Queue()
    lock = threading.Lock()

    def feed() -> None:
        with tempfile.TemporaryDirectory() as folder:
            worker = _Worker(devices, Path(folder) / "case")
            try:
                while True:
                    with lock:
                        item = next(rounds, None)
                    if item is None:
                        return
                    done.put(worker.run(item))
            finally:
                worker.stop()
                done.put(None)

    for _ in range(jobs):
        threading.Thread(target=feed, daemon=True).start()
    running = jobs
    while running:
        found = done.get()
        if found is None:
            running -= 1
        else:
            yield found


class _Worker:
    """A process that is started anew where it died or hangs."""

    def __init__(self, devices: Sequence[str], note: Path) -> None:
        self._devices = tuple(devices)
        self._note = note
        self._process: Any = None
        self._ours: Any = None

    def run(self, item: Round) -> Findings:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._ours, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, self._devices, self._note), daemon=True)
            with safe_spawn():
                self._process.start()
            theirs.close()
        self._ours.send(item)
        try:
            if not self._ours.poll(LONGEST_ROUND_SECONDS):
                raise TimeoutError
            found: Findings = self._ours.recv()
            return found
        except (EOFError, OSError) as error:
            self._process.kill()
            self._process.join()
            what = (
                f"took longer than {LONGEST_ROUND_SECONDS:.0f} s"
                if isinstance(error, TimeoutError)
                else f"killed its process (exit code {self._process.exitcode})"
            )
            self._process = None
            op, domain, seed, _ = item
            found = Findings(op, domain, seed)
            found.outcomes[Outcome.WRONG] += 1
            if self._note.exists():
                found.failure = (pickle.loads(self._note.read_bytes()), Verdict(Outcome.WRONG, what))
            return found

    def stop(self) -> None:
        if self._process is not None:
            self._ours.close()
            self._process.join()


def _work(connection: Connection, devices: Sequence[str], note: Path) -> None:
    """A worker process: runs rounds until the other end is closed."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    while True:
        try:
            op, domain, seed, examples = connection.recv()
        except EOFError:
            return

        def begin(case: Any) -> None:
            note.write_bytes(pickle.dumps(case))

        try:
            found = explore(op, domain, devices, seed=seed, examples=examples, begin=begin)
        except Exception:
            # a strategy that breaks is told like a failure; the other operators go on
            found = Findings(op, domain, seed, error=traceback.format_exc(limit=-4))
        connection.send(found)
