"""A queue for providers whose vendor has none on host memory: a thread that does one piece of work after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from mace_core.provider.execution import Event, Stream


class WorkerEvent(Event):
    """Completion of work that a `WorkerQueue` does."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def wait(self) -> None:
        """Block until the work is done; raises what it raised."""
        self._future.result()

    @property
    def is_done(self) -> bool:
        """Whether the work has ended, well or badly."""
        return self._future.done()


class WorkerQueue(Stream):
    """An in-order queue whose work is done by a thread of its own, which ends with the queue.

    For calls that block and release the GIL.  Work whose predecessors in the queue failed is done all the same; work
    that waits for an event that failed is not.
    """

    def __init__(self, name: str) -> None:
        """``name`` is that of the thread, for debuggers."""
        self._threads = ThreadPoolExecutor(1, name)
        self._unsettled: list[Future[None]] = []

    def submit(self, work: Callable[[], None], wait: Sequence[Event]) -> Event:
        """Do ``work`` after all that was submitted before and once the events of ``wait`` are done."""
        events = tuple(wait)

        def go() -> None:
            for event in events:
                event.wait()
            work()

        future = self._threads.submit(go)
        self._unsettled = [
            earlier for earlier in self._unsettled if not earlier.done() or earlier.exception() is not None
        ]
        self._unsettled.append(future)
        return WorkerEvent(future)

    def synchronize(self) -> None:
        """Block until all work is done; raises what the first that failed since the last call raised."""
        unsettled, self._unsettled = self._unsettled, []
        failures = [error for future in unsettled if (error := future.exception()) is not None]
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the thread, after the work that is left.  Idempotent."""
        self._threads.shutdown()
