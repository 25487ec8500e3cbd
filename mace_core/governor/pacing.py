"""The rate at which streams take frames: their own, or the governor's where that is lower."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from mace_core.errors import UsageError

_T = TypeVar("_T")

_LONGEST_SLEEP_SECONDS = 0.25
"""A pacer looks so often whether the rate has changed."""

_limit: float | None = None


def set_frame_rate(frames_per_second: float | None) -> None:
    """The most frames a second that any pacer lets through; None: their own rates."""
    global _limit
    _limit = frames_per_second


class Pacer:
    """Lets the frames of one stream through at an even rate.  For one thread or task.

    Attributes:
        taken, dropped: frames let through, and those that came too early (`frames`, `is_due`).
    """

    def __init__(self, frame_rate: float | None = None, limit: Callable[[], float | None] = lambda: None) -> None:
        """
        Args:
            frame_rate: the stream's own, frames a second; None: as they come, where no governor holds them back.
            limit: one more, asked at each frame.
        """
        if frame_rate is not None and not 0 < frame_rate < math.inf:
            raise UsageError(f"a frame rate is more than 0, not {frame_rate}")
        self._own = frame_rate
        self._further = limit
        self._last = -math.inf  # when the latest frame was due
        self.taken = self.dropped = 0

    @property
    def frame_rate(self) -> float | None:
        """Frames a second now; None: any number."""
        rates = [rate for rate in (self._own, _limit, self._further()) if rate is not None]
        return min(rates, default=None)

    def wait(self) -> None:
        """Return when the next frame is due."""
        while (left := self._left()) > 0:
            time.sleep(min(left, _LONGEST_SLEEP_SECONDS))
        self._take()

    async def wait_async(self) -> None:
        """Return when the next frame is due; the event loop goes on meanwhile."""
        while (left := self._left()) > 0:
            await asyncio.sleep(min(left, _LONGEST_SLEEP_SECONDS))
        self._take()

    def is_due(self) -> bool:
        """Whether a frame that has come is to be taken; for sources that do not wait, as cameras."""
        if self._left() > 0:
            self.dropped += 1
            return False
        self._take()
        return True

    def frames(self, source: Iterable[_T]) -> Iterator[_T]:
        """The frames of ``source`` that are to be taken; those that come too early are dropped."""
        for frame in source:
            if self.is_due():
                yield frame

    def _left(self) -> float:
        """Seconds until the next frame is due."""
        rate = self.frame_rate
        return 0.0 if rate is None else self._last + 1 / rate - time.monotonic()

    def _take(self) -> None:
        """Counted from when this frame was due, not from when it came, so that the rate is kept on average; from now
        where it is later than a whole period, so that no frames come in a heap."""
        now, rate = time.monotonic(), self.frame_rate
        period = 0.0 if rate is None else 1 / rate
        due = self._last + period
        self._last = due if now - due < period else now
        self.taken += 1


def pace(frame_rate: float | None = None) -> Pacer:
    """A pacer for one stream: ``for frame in pace(30).frames(camera): session.run(…)``."""
    return Pacer(frame_rate)
