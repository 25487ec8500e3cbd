"""The computer that is measured on: what it is, and what else keeps it busy."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import psutil

from mace_core.host.processor_name import processor_name
from mace_core.host.threads import default_threads

QUIET_CORES = 0.15
"""Cores that other processes may keep busy for a measurement to count as undisturbed."""

_LOOK_SECONDS = 0.5


class LoadMeter:
    """Cores that processes other than this one and its children keep busy, from when it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = _own_seconds()

    def other_cores(self) -> float:
        """The average since then; what the hypervisor took away counts.  At least 0."""
        wall = max(time.perf_counter() - self._start, 1e-3)
        others = (_busy_seconds() - self._busy) - (_own_seconds() - self._own)
        return max(0.0, others / wall)


def wait_for_quiet(limit: float, told: Callable[[str], None]) -> float:
    """Wait until others leave the machine alone, ``limit`` seconds at most; returns the load last seen, in cores."""
    deadline = time.monotonic() + limit
    while True:
        meter = LoadMeter()
        time.sleep(_LOOK_SECONDS)
        load = meter.other_cores()
        if load < QUIET_CORES or time.monotonic() >= deadline:
            return load
        told(f"waiting: other processes use {load:.1f} cores")


def describe() -> dict[str, object]:
    """What to print above a table of timings."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count() or 1,
        "usable_cores": default_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    kinds = ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc", "steal")
    return float(sum(getattr(times, kind, 0.0) for kind in kinds))


def _own_seconds() -> float:
    """Of this process and the children it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
