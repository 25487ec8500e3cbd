"""Threads that do pieces of runs: kept for a while when idle, shared by all sessions."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

IDLE_SECONDS = 5.0
"""A thread with nothing to do for so long ends."""


class _Helper:
    """One thread, which does one piece of work after the other."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._given = threading.Lock()
        self._given.acquire()
        threading.Thread(target=self._serve, name="mace run", daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        """Do ``work``; only for who took it from the list of the idle ones."""
        self._work = work
        self._given.release()

    def _serve(self) -> None:
        while True:
            work, self._work = self._work, None
            assert work is not None
            work()
            del work  # nothing of a session is held while the thread waits
            _idle.append(self)
            if not self._given.acquire(timeout=IDLE_SECONDS):
                try:
                    _idle.remove(self)
                except ValueError:  # taken at this very moment
                    self._given.acquire()
                else:
                    return


_idle: list[_Helper] = []


def start(work: Callable[[], None]) -> None:
    """Let another thread do ``work``, which raises nothing."""
    try:
        helper = _idle.pop()
    except IndexError:
        _Helper(work)
    else:
        helper.give(work)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # the threads are not there
