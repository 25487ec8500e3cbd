"""What one run carries along: its cancel flag and, when profiled, what it records."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mace_core.provider.execution import CancelFlag

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile


class _Following(threading.local):
    runs = False


_following = _Following()


@contextlib.contextmanager
def following_others() -> Iterator[None]:
    """Runs of this thread follow others over the devices: on each of several devices one is at work at a time, so that
    the one behind takes a device while the one before is on the next."""
    before, _following.runs = _following.runs, True
    try:
        yield
    finally:
        _following.runs = before


def follows_others() -> bool:
    """Whether this thread is within `following_others`."""
    return _following.runs


@dataclass(slots=True, eq=False)
class RunContext:
    """One request, through all plans and bodies it touches."""

    cancel: CancelFlag = field(default_factory=CancelFlag)
    profile: Profile | None = None
