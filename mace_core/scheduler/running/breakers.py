"""Circuit breakers: a device that keeps failing rests, and one run tries it when the rest is over.

closed -> (failures) -> resting -> (the rest is over) -> one run tries it -> closed, or a longer rest
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mace_core.faults import FaultLimits
from mace_core.host.fork_safe import fork_safe_lock

_WORTH = 0.25
"""How much of a failure a run that ends well makes up for."""


class Breaker:
    """What one device of a session has done lately.

    Attributes:
        reason: of the latest failure, as part of a sentence.
        is_gone: it has to be opened again before it is tried.
        hangs: because a call of it did not come back.
        failed_runs: how many runs it failed in, in all.
        rests: how often it was rested.
    """

    def __init__(self, limits: FaultLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = fork_safe_lock()
        self._score = 0.0
        self._streak = 0  # of rests, without good times between them
        self._until: float | None = None  # when the rest is over
        self._is_tried = False
        self.reason = ""
        self.is_gone = self.hangs = False
        self.failed_runs = self.rests = 0

    @property
    def is_calm(self) -> bool:
        """Whether nothing is held against the device."""
        return not self._score and self._until is None

    @property
    def is_resting(self) -> bool:
        """Whether runs do without it, but for one that tries it."""
        return self._until is not None

    def admits(self) -> bool | None:
        """Whether a run may use the device; None: as the one run that tries it, and has to say how that went
        (`succeeded`, `failed` or `untried`)."""
        with self._lock:
            if self._until is None:
                return True
            if self._is_tried or self._clock() < self._until:
                return False
            self._is_tried = True
            return None

    def failed(self, reason: str, *, is_gone: bool = False, is_trial: bool = False, hangs: bool = False) -> bool:
        """A run failed there; whether the device rests from now on.  ``is_gone``: at once, as where it ``hangs``."""
        with self._lock:
            self.failed_runs += 1
            self.reason = reason
            self.is_gone |= is_gone
            self.hangs |= hangs
            self._score += 1
            if self._until is not None and not is_trial:
                return False  # a run that began before the rest
            if not is_trial and not is_gone and self._score < self._limits.failures:
                return False
            seconds = self._limits.rest_seconds * self._limits.growth ** min(self._streak, 64)
            self._until = self._clock() + min(seconds, self._limits.longest_rest_seconds)
            self._streak += 1
            self._is_tried = False
            self.rests += 1
            return True

    def taken_back(self) -> None:
        """What was told as a failure was none of the device's."""
        with self._lock:
            self.failed_runs -= 1
            self._score = max(0.0, self._score - 1)

    def succeeded(self, *, is_trial: bool = False) -> bool:
        """A run ended well there; whether that ended a rest."""
        with self._lock:
            if is_trial:
                self._until, self._is_tried, self.is_gone, self.hangs = None, False, False, False
                self._score = max(0.0, self._limits.failures - 1.0)  # one more failure and it rests again
            elif self._until is None:
                self._score = max(0.0, self._score - _WORTH)
            if self._until is None and not self._score:
                self._streak = 0
            return is_trial

    def untried(self) -> None:
        """The run that was to try it did not come to that: the next one does."""
        with self._lock:
            self._is_tried = False

    def history(self) -> str:
        """How often it failed, and why the last time, as part of a sentence about it."""
        times = f"{self.failed_runs} run{'s' * (self.failed_runs != 1)}"
        return f"it failed in {times} and is used on; the latest reason: {self.reason}"

    def told(self) -> str:
        """Why runs do without it now, and for how long; "" where they do not."""
        until = self._until
        if until is None:
            return ""
        left = until - self._clock()
        times = f"{self.failed_runs} failed run{'s' * (self.failed_runs != 1)}"
        when = f"is tried again in {left:.3g} s" if left > 0 else "is tried again by the next run"
        deed = "it hangs" if self.hangs else "it was lost" if self.is_gone else "it failed"
        return f"{deed}: {self.reason} ({times}); it rests, and {when}"
