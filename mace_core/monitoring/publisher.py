"""Keeping this process's file up to date: one thread, there only in processes that publish."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.private_files import NotPrivateError
from mace_core.monitoring import board

_log = logging.getLogger("mace")

VARIABLE = "MACE_MONITOR"
PERIOD_SECONDS = 1.0
_MOST_PROGRAM = 80


def publish(period: float = PERIOD_SECONDS) -> bool:
    """Show what the sessions of this process do, for ``mace monitor``, until the process ends.

    A daemon thread writes a small file ``period`` seconds apart; runs are not slowed.

    Returns:
        Whether it can be shown; where it cannot, a warning said why.

    Raises:
        UsageError: for a period that is none.
    """
    if not 0.05 <= period <= 3600:
        raise UsageError(f"a period of {period} seconds is none to publish in: take 0.05 to 3600")
    return _publisher.start(period)


def publish_if_asked() -> None:
    """`publish`, if the environment has ``MACE_MONITOR=1``; once for the process."""
    if not _publisher.is_asked_for and os.environ.get(VARIABLE, "0") not in ("", "0"):
        _publisher.is_asked_for = True
        publish()


def publish_quietly() -> None:
    """`publish` for our own commands: after a second, so that short ones pay nothing; nothing is said where it cannot
    be, and ``MACE_MONITOR=0`` forbids it."""
    if os.environ.get(VARIABLE) != "0":
        _publisher.start_later()


class _Publisher:
    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        self._folder: Path | None = None
        self._period = PERIOD_SECONDS
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self.is_asked_for = False

    def start(self, period: float) -> bool:
        """Show this process, now and from now on."""
        with self._lock:
            self._period = period
            if self._thread is None:
                if not self._begin(logging.WARNING):
                    return False
                self._run()
            return True

    def start_later(self) -> None:
        """Show this process once it has run for a while: a command that ends before that pays nothing for it."""
        with self._lock:
            if self._thread is None:
                self._run()

    def _run(self) -> None:
        self._pid, self._stopped = os.getpid(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="mace monitor", daemon=True)
        self._thread.start()

    def _begin(self, level: int) -> bool:
        try:
            folder = board.board_folder()
            board.prepare_folder(folder)
            board.write(folder, snapshot())
        except (NotPrivateError, UsageError, OSError) as error:
            _log.log(level, "this process does not show its sessions to mace monitor: %s", error)
            return False
        self._folder = folder
        return True

    def stop(self) -> None:
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or self._pid != os.getpid():
                return
            self._stopped.set()
        thread.join(5.0)
        if self._folder is not None:
            board.withdraw(self._folder)
            self._folder = None

    def _work(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self._period):
            folder = self._folder
            if folder is None:
                if not self._begin(logging.DEBUG):
                    return
                continue
            try:
                board.write(folder, snapshot())
            except OSError as error:
                _log.warning("this process no longer shows its sessions to mace monitor: %s", error)
                return

    def forget(self) -> None:
        """In the child of a fork: it shows itself only if it asks anew."""
        self._thread = self._folder = None
        self.is_asked_for = False


def snapshot() -> dict[str, Any]:
    """What this process shows now."""
    import psutil

    from mace_core import activity
    from mace_core.governor import status_data
    from mace_core.requests.queue import queues

    return {
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "time": time.time(),
        "program": _program(),
        "sessions": [
            {
                "number": each.number,
                "model": each.model,
                "devices": list(each.devices),
                "runs": each.runs,
                "failures": each.failures,
                "busy_seconds": each.busy_seconds,
            }
            for each in activity.sessions()
        ],
        "queues": [
            {"device": each.name, "waiting": each.waiting, "running": each.running, "room": each.limits.waiting}
            for each in queues()
        ],
        "governor": status_data(),
    }


def _program() -> str:
    """The program's name and the sub-command of ours; not what it was given, which may be a secret."""
    name = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if name in ("mace", "__main__.py", "main.py") and len(sys.argv) > 1 and sys.argv[1].isalpha():
        name = f"mace {sys.argv[1]}"
    return name[:_MOST_PROGRAM]


_publisher = _Publisher()
atexit.register(_publisher.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_publisher.forget)
