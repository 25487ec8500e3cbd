"""Calls functions at given times: one thread for the process, there only while something is to be called."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from mace_core.host.fork_safe import fork_safe_lock

_log = logging.getLogger("mace")

IDLE_SECONDS = 2.0
"""The thread ends after so long with nothing to do."""

Appointment: TypeAlias = "tuple[float, int, Callable[[], None]]"


class _Watch:
    def __init__(self) -> None:
        self.reset()
        self._count = itertools.count()

    def reset(self) -> None:
        """Begin anew, as the child of a fork must: it has no thread."""
        self._changed = threading.Condition(fork_safe_lock())
        self._entries: list[Appointment] = []
        self._is_running = False
        self.thread: int | None = None

    def add(self, until: float, call: Callable[[], None]) -> Appointment:
        entry = (until, next(self._count), call)
        with self._changed:
            heapq.heappush(self._entries, entry)
            if not self._is_running:
                threading.Thread(target=self._work, name="mace deadlines", daemon=True).start()
                self._is_running = True
            if self._entries[0] is entry:
                self._changed.notify()
        return entry

    def remove(self, entry: Appointment) -> None:
        with self._changed:
            if entry in self._entries:
                self._entries.remove(entry)
                heapq.heapify(self._entries)

    def _work(self) -> None:
        self.thread = threading.get_ident()
        while (call := self._next()) is not None:
            try:
                call()
            except BaseException:
                _log.exception("what was to be done when a deadline passed has failed")
            del call  # nothing of a request is held while the thread waits

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                left = self._entries[0][0] - time.monotonic() if self._entries else IDLE_SECONDS
                if left <= 0:
                    return heapq.heappop(self._entries)[-1]
                if not self._changed.wait(min(left, threading.TIMEOUT_MAX)) and not self._entries:
                    self._is_running, self.thread = False, None
                    return None


_watch = _Watch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.reset)


def call_at(until: float, call: Callable[[], None]) -> Appointment:
    """Call ``call`` on a thread of its own at ``until`` (`time.monotonic`), unless `forget` is called before."""
    return _watch.add(until, call)


def forget(entry: Appointment) -> None:
    """Do not call what was to be called, if it has not been."""
    _watch.remove(entry)


def is_watching() -> bool:
    """Whether this is the thread that calls what was to be called: it must never wait for what a deadline may end."""
    return _watch.thread == threading.get_ident()
