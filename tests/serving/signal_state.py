"""What a process does on the signals that end it, as Python and as the system have it."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

SA_RESTORER = 0x04000000
"""Of the C library alone, which sets it whatever it is asked for."""


def signal_state() -> list[Any]:
    """Handlers of Python and of the system, the system's flags and mask, and where Python is woken."""
    found: list[Any] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        found += [signal.getsignal(number), system_action(number)]
    wakes = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakes)
    return [*found, wakes]


def system_action(number: int) -> tuple[bytes, bytes, int] | None:
    """Handler, mask and flags (Linux on 64 bits); what else is in the structure is not set."""
    if sys.platform != "linux":
        return None
    raw = ctypes.create_string_buffer(512)
    assert ctypes.CDLL(None).sigaction(number, None, raw) == 0
    return raw.raw[:8], raw.raw[8:16], int.from_bytes(raw.raw[136:140], "little") & ~SA_RESTORER
