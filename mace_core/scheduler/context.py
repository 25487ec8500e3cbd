"""What one run carries along: its cancel flag, arrays to write results into and, when profiled, what it records."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_core.provider.execution import CancelFlag

if TYPE_CHECKING:
    import numpy.typing as npt

    from mace_core.graph import Value
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
    """One request, through all plans and bodies it touches.

    Attributes:
        targets: arrays of the caller for results: row-major and aligned, apart from all that the run reads.
    """

    cancel: CancelFlag = field(default_factory=CancelFlag)
    profile: Profile | None = None
    targets: Mapping[Value, npt.NDArray[Any]] | None = None

    def targets_among(self, values: Iterable[Value]) -> Mapping[Value, npt.NDArray[Any]] | None:
        """The targets, if any is for one of these values."""
        targets = self.targets
        return targets if targets and any(value in targets for value in values) else None
