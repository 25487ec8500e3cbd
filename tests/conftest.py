"""What holds for every test of the core."""

from __future__ import annotations

import signal
import threading


def pytest_configure() -> None:
    """Hear Ctrl-C: a shell starts what it runs in its background with the signal ignored, and that is inherited by
    every process a test starts, which then could not be interrupted."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
