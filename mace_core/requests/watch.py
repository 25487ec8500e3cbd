"""Stops runs whose deadline passes: one thread for the process, there only while some run has a deadline."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Iterator

from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag


class _Watch:
    def __init__(self) -> None:
        self._changed = threading.Condition(fork_safe_lock())
        self._entries: list[tuple[float, int, CancelFlag]] = []
        self._is_running = False
        self._count = itertools.count()

    @contextlib.contextmanager
    def over(self, until: float, flag: CancelFlag) -> Iterator[None]:
        entry = (until, next(self._count), flag)
        with self._changed:
            heapq.heappush(self._entries, entry)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._work, name="mace deadlines", daemon=True).start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                if entry in self._entries:
                    self._entries.remove(entry)
                    heapq.heapify(self._entries)
                self._changed.notify()

    def _work(self) -> None:
        with self._changed:
            while True:
                while self._entries and self._entries[0][0] <= time.monotonic():
                    heapq.heappop(self._entries)[-1].set()
                left = self._entries[0][0] - time.monotonic() if self._entries else 2.0
                if not self._changed.wait(left) and not self._entries:
                    self._is_running = False
                    return


_watch = _Watch()


def watch(until: float | None, flag: CancelFlag) -> contextlib.AbstractContextManager[None]:
    """Set ``flag`` if the body is not done by ``until`` (`time.monotonic`)."""
    return contextlib.nullcontext() if until is None else _watch.over(until, flag)
