"""What the sessions of this process do: counters for monitors, metrics and governors.

A session counts its own runs with plain additions and no lock, so that counting costs a run nothing to speak of; of
runs that end on two threads at the same instant, one may be missed.
"""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Activity:
    """The counters of one session.

    Attributes:
        model: its path or name.
        runs: how many ended well.
        failures: how many did not.
        busy_ns: nanoseconds spent in runs; of runs at the same time each counts.
        retried, moved, rested: how often a run was tried once more on a device that failed it, how often one went on
            without such a device, and how often a device that kept failing was left alone for some time.
    """

    __slots__ = (
        *(
            "__weakref__",
            "_devices",
            "_owner",
            "busy_ns",
            "failures",
            "model",
            "moved",
            "number",
            "rested",
            "retried",
            "runs",
        ),
    )

    def __init__(self, model: str, devices: Callable[[], Sequence[str]]) -> None:
        """``devices`` tells the names of those in use."""
        self.model = model
        self._devices = devices
        self.runs = self.failures = self.busy_ns = 0
        self.retried = self.moved = self.rested = 0
        self.number = next(_numbers)
        self._owner: weakref.ref[object] | None = None
        _all[self.number] = weakref.ref(self, functools.partial(_forget, self.number))

    def own(self, session: object) -> None:
        """The session is ready; it is not kept alive."""
        self._owner = weakref.ref(session)

    def now_on(self, devices: Callable[[], Sequence[str]]) -> None:
        """The session runs elsewhere; ``devices`` tells the names of those in use there."""
        self._devices = devices

    def close(self) -> None:
        """The session is closed."""
        _forget(self.number)

    def snapshot(self) -> SessionActivity:
        """The counters as they are now."""
        return SessionActivity(
            self.number,
            self.model,
            tuple(self._devices()),
            self.runs,
            self.failures,
            self.busy_ns / 1e9,
            *(self.retried, self.moved, self.rested),
        )


@dataclass(frozen=True, slots=True)
class SessionActivity:
    """What one open session did so far.

    Attributes:
        number: tells sessions of this process apart; the first that was opened has the lowest.
        model: its path or name.
        devices: names of those in use.
        runs, failures: how many runs ended well, and how many did not.
        busy_seconds: time spent in runs; of runs at the same time each counts.
        retried, moved, rested: runs tried once more on a device that failed them, runs that went on without such a
            device, and rests of devices that kept failing.
    """

    number: int
    model: str
    devices: tuple[str, ...]
    runs: int
    failures: int
    busy_seconds: float
    retried: int = 0
    moved: int = 0
    rested: int = 0


_numbers = itertools.count(1)
# There is no lock: garbage may be collected where it is held, and a session that is thrown away closes itself then.
# Each use is one step that no thread can be stopped within.
_all: dict[int, weakref.ref[Activity]] = {}


def _forget(number: int, _: object = None) -> None:
    _all.pop(number, None)


def _open() -> list[Activity]:
    found = [reference() for reference in list(_all.values())]
    return sorted((activity for activity in found if activity is not None), key=lambda activity: activity.number)


def sessions() -> list[SessionActivity]:
    """The open sessions of this process, in the order in which they were opened."""
    return [activity.snapshot() for activity in _open()]


def owners() -> list[object]:
    """The open sessions of this process themselves, in the order in which they were opened."""
    return [owner for activity in _open() if activity._owner is not None and (owner := activity._owner()) is not None]
