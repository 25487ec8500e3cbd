"""Judges cases in processes of their own, so that a case that kills its process is a failure and not the end."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from queue import Empty, Queue
from typing import Any

from mace_core.host.children import safe_spawn
from mace_testing.backend_suite.cases import suite_cases
from mace_testing.backend_suite.judge import Conditions, Outcome, Verdict, judge

LONGEST_CASE_SECONDS = 120.0


def judge_all(
    names: Sequence[str], provider: str, *, jobs: int = 1, conditions: Conditions | None = None
) -> Iterator[Verdict]:
    """Verdicts of all cases named, in the order in which they are done."""
    waiting: Queue[str] = Queue()
    done: Queue[Verdict] = Queue()
    for name in names:
        waiting.put(name)
    threads = [
        threading.Thread(target=_feed, args=(waiting, done, provider, conditions or Conditions()), daemon=True)
        for _ in range(jobs)
    ]
    for thread in threads:
        thread.start()
    for _ in names:
        yield done.get()


def _feed(waiting: Queue[str], done: Queue[Verdict], provider: str, conditions: Conditions) -> None:
    """Hand one worker process case after case; start another where it dies or hangs."""
    context = multiprocessing.get_context("spawn")
    process: Any = None
    ours: Any = None
    while True:
        try:
            name = waiting.get_nowait()
        except Empty:
            break
        if process is None:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, provider, conditions), daemon=True)
            with safe_spawn():
                process.start()
            theirs.close()
        ours.send(name)
        try:
            if not ours.poll(LONGEST_CASE_SECONDS):
                raise TimeoutError
            done.put(ours.recv())
        except (EOFError, OSError) as error:
            process.kill()
            process.join()
            case = suite_cases()[name]
            what = (
                f"took longer than {LONGEST_CASE_SECONDS:.0f} s"
                if isinstance(error, TimeoutError)
                else f"killed its process (exit code {process.exitcode})"
            )
            process = None
            done.put(Verdict(name, case.kind, case.op, case.unusual, Outcome.FAIL, f"the case {what}", wrong=True))
    if process is not None:
        ours.close()
        process.join()


def _work(connection: Connection, provider: str, conditions: Conditions) -> None:
    """A worker process: judges cases until the other end is closed."""
    cases = suite_cases()
    while True:
        try:
            name = connection.recv()
        except EOFError:
            return
        try:
            verdict = judge(cases[name], provider, conditions)
        except Exception as error:
            case = cases[name]
            reason = f"{type(error).__name__}: {error}"[:300]
            verdict = Verdict(name, case.kind, case.op, case.unusual, Outcome.FAIL, reason, wrong=True)
        connection.send(verdict)
