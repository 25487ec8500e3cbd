"""What a model takes on this machine: memory over time, throughput of several streams, the best number of threads.

Names are imported when they are asked for: a process whose memory is looked at holds little of what looks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.measurement.memory import KindUse, MemoryObserver, MemoryReport, Moment, observe_memory
    from mace_core.measurement.statistics import Estimate, estimate
    from mace_core.measurement.threads import (
        Advice,
        Candidate,
        Measured,
        ThreadAdvice,
        advise,
        candidates_for,
        compare_threads,
    )
    from mace_core.measurement.throughput import Stream, Throughput, measure_throughput

__all__ = [
    "Advice",
    "Candidate",
    "Estimate",
    "KindUse",
    "Measured",
    "MemoryObserver",
    "MemoryReport",
    "Moment",
    "Stream",
    "ThreadAdvice",
    "Throughput",
    "advise",
    "candidates_for",
    "compare_threads",
    "estimate",
    "measure_throughput",
    "observe_memory",
]

_HOMES = {
    "memory": ("KindUse", "MemoryObserver", "MemoryReport", "Moment", "observe_memory"),
    "statistics": ("Estimate", "estimate"),
    "threads": (
        "Advice",
        "Candidate",
        "Measured",
        "ThreadAdvice",
        "advise",
        "candidates_for",
        "compare_threads",
    ),
    "throughput": ("Stream", "Throughput", "measure_throughput"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
