"""Runs of several threads at once, with the times of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_core.provider.execution import CancelFlag

if TYPE_CHECKING:
    from mace_core.session import Session

Spans: TypeAlias = "list[tuple[float, float]]"
"""When each run began and ended, by `time.perf_counter`, in seconds."""

GoesOn: TypeAlias = Callable[[int, float], bool]
"""Whether a stream runs once more, after so many runs and so many seconds."""


def run_streams(
    sessions: Sequence[Session],
    feeds: Mapping[str, Any],
    *,
    warmup: int,
    goes_on: GoesOn,
    meanwhile: Callable[[Sequence[Future[Spans]]], object] = lambda work: None,
) -> list[Spans]:
    """Run from several threads, which begin together once all have warmed up; each runs at least once.

    Args:
        sessions: one for each thread; several threads may share one.
        feeds: an array for every input.
        warmup: runs of each thread that do not count.
        goes_on: asked after each run of a thread.
        meanwhile: called, in this thread, when all have begun.

    Raises:
        MaceError: what a run raises; the other threads are stopped first.
    """
    cancel, begin = CancelFlag(), threading.Barrier(len(sessions) + 1)
    with ThreadPoolExecutor(len(sessions), thread_name_prefix="mace-stream") as threads:
        work = [threads.submit(_stream, session, feeds, warmup, goes_on, begin, cancel) for session in sessions]
        try:
            begin.wait()
            meanwhile(work)
            for done in as_completed(work):
                if (error := done.exception()) is not None:
                    raise error
        except threading.BrokenBarrierError:  # a stream failed while it warmed up: its own error is told
            cancel.set()
            for each in work:
                if (error := each.exception()) is not None and not isinstance(error, threading.BrokenBarrierError):
                    raise error from None
            raise
        except BaseException:
            cancel.set()  # leaving the block waits for the threads
            begin.abort()
            raise
    return [done.result() for done in work]


def _stream(
    session: Session,
    feeds: Mapping[str, Any],
    warmup: int,
    goes_on: GoesOn,
    begin: threading.Barrier,
    cancel: CancelFlag,
) -> Spans:
    """The runs of one thread."""
    try:
        for _ in range(warmup):
            session.run(feeds, cancel=cancel)
    except BaseException:
        begin.abort()  # the others do not wait for this one
        raise
    begin.wait()
    spans: Spans = []
    first = time.perf_counter()
    while True:
        started = time.perf_counter()
        session.run(feeds, cancel=cancel)
        ended = time.perf_counter()
        spans.append((started, ended))
        if not goes_on(len(spans), ended - first):
            return spans
