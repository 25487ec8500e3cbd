"""Staying cool: what is hot runs on fewer threads, frugal processors, other devices or at a lower rate, and back.

    with mace_core.governor.start() as governor:
        ...

What it decides is in `ladder` (pure), where it acts in `acting`, its threads in `running`.  Sessions import single
modules of this package, so its names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.governor.ladder import Ladder, Mode, Rung, default_rungs
    from mace_core.governor.pacing import Pacer, pace
    from mace_core.governor.running import Governor, current, for_sessions, start, status_data

_LAZY = {
    "Governor": "running",
    "Ladder": "ladder",
    "Mode": "ladder",
    "Pacer": "pacing",
    "Rung": "ladder",
    "current": "running",
    "default_rungs": "ladder",
    "for_sessions": "running",
    "pace": "pacing",
    "start": "running",
    "status_data": "running",
}

__all__ = [
    "Governor",
    "Ladder",
    "Mode",
    "Pacer",
    "Rung",
    "current",
    "default_rungs",
    "for_sessions",
    "pace",
    "start",
    "status_data",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mace_core.governor' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mace_core.governor.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
