"""Which mode a temperature asks for: thresholds with hysteresis, and a time to stay."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.errors import UsageError
from mace_core.host.processors import AFFINITIES
from mace_core.host.threads import default_threads


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to run.

    Attributes:
        name: for people and logs.
        threads: at most so many take part in a run on the host; None: as many as the session was given.
        affinity: "little": keep them to the efficient processors, where the machine has some; "none": anywhere.
        devices: sessions run on these instead of their own; None: on their own.
        frame_rate: streams take at most so many frames a second (`pace`); None: any number.
    """

    name: str
    threads: int | None = None
    affinity: str = "none"
    devices: tuple[str, ...] | None = None
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"the mode '{self.name}' has {self.threads} threads: a run needs at least 1")
        if self.affinity not in AFFINITIES:
            raise UsageError(f"the affinity of the mode '{self.name}' is none, big or little, not {self.affinity!r}")
        if self.devices is not None and (isinstance(self.devices, str) or not self.devices):
            raise UsageError(f"the mode '{self.name}' names devices as a tuple of at least one, not {self.devices!r}")
        if self.frame_rate is not None and not 0 < self.frame_rate < math.inf:
            raise UsageError(f"the frame rate of the mode '{self.name}' is more than 0, not {self.frame_rate}")

    def describe(self) -> str:
        """What it does, in words."""
        parts = []
        if self.threads is not None:
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.affinity != "none":
            parts.append(f"{self.affinity} processors")
        if self.devices is not None:
            parts.append(f"on {', '.join(self.devices)}")
        if self.frame_rate is not None:
            parts.append(f"{self.frame_rate:g} frames/s")
        return ", ".join(parts) or "everything the sessions were given"


@dataclass(frozen=True, slots=True)
class Rung:
    """A mode, and the temperatures (degrees Celsius) at which it begins and ends.

    Attributes:
        mode: what runs do while it holds.
        begins: from this temperature on, at once.
        ends: below this one, once that has lasted for the ladder's dwell time.
    """

    mode: Mode
    begins: float
    ends: float


FULL = Mode("full")


class Ladder:
    """The mode that a series of temperatures asks for.

    Going to a cooler mode is immediate, as far as the temperature asks for.  Going back is one rung at a time, and only
    after the temperature was below the rung's end for ``dwell`` seconds since the latest change.  So two steps back are
    never closer than ``dwell``, and no temperature at or above the last rung's beginning finds another mode than that.

    Args:
        rungs: from the coolest temperature to the hottest; below the first is ``full``.
        dwell: seconds.
        full: the mode to begin with.

    Raises:
        UsageError: if the thresholds are not in order, or names are there twice.
    """

    def __init__(self, rungs: Sequence[Rung], dwell: float = 10.0, full: Mode = FULL) -> None:
        self.rungs = tuple(rungs)
        self.dwell = dwell
        self.modes = (full, *(rung.mode for rung in self.rungs))
        self.level = 0
        self._calm_since: float | None = None
        if not self.rungs:
            raise UsageError("a governor needs at least one cooler mode")
        if not 0 <= dwell < math.inf:
            raise UsageError(f"the dwell time of a governor is at least 0 seconds, not {dwell}")
        for rung in self.rungs:
            if not (math.isfinite(rung.ends) and math.isfinite(rung.begins) and rung.ends < rung.begins):
                raise UsageError(f"the mode '{rung.mode.name}' has to end at a lower temperature than it begins at")
        for cooler, hotter in itertools.pairwise(self.rungs):
            if not (cooler.begins < hotter.begins and cooler.ends <= hotter.ends):
                raise UsageError(f"the mode '{hotter.mode.name}' has to begin above '{cooler.mode.name}'")
        if len({mode.name for mode in self.modes}) != len(self.modes):
            raise UsageError("the modes of a governor have names of their own")

    @property
    def mode(self) -> Mode:
        """The mode now."""
        return self.modes[self.level]

    def update(self, now: float, celsius: float, wish: str | None = None) -> Mode:
        """The mode after a reading.

        Args:
            now: seconds of a clock that only goes forward.
            celsius: what the sensor shows.
            wish: the mode that a plugin or an application prefers, by name.  A hotter reading than that of the last
                rung overrules it.
        """
        if not math.isfinite(celsius):
            return self.lose(now)
        asked = sum(celsius >= rung.begins for rung in self.rungs)
        if wish is None or asked == len(self.rungs):
            is_calm = self.level > 0 and celsius < self.rungs[self.level - 1].ends
        else:
            asked = self._level_of(wish)
            is_calm = asked < self.level
        if asked > self.level:
            self.level, self._calm_since = asked, None
        elif not is_calm:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self.dwell:
            self.level, self._calm_since = self.level - 1, now
        return self.mode

    def lose(self, now: float) -> Mode:
        """The mode where nothing is known of the temperature: the coolest."""
        self.level, self._calm_since = len(self.rungs), None
        return self.mode

    def _level_of(self, name: str) -> int:
        for level, mode in enumerate(self.modes):
            if mode.name == name:
                return level
        raise UsageError(f"a governor has no mode '{name}': it has {', '.join(mode.name for mode in self.modes)}")


def default_rungs(threads: int | None = None) -> list[Rung]:
    """Three cooler modes for ``threads`` (by default, what this process may use), at 75, 85 and 95 degrees.

    Processors slow down by themselves at 95 to 105 degrees, and far less evenly.
    """
    count = default_threads() if threads is None else threads
    half = max(1, count // 2)
    quarter = max(1, count // 4)
    return [
        Rung(Mode("warm", threads=half), 75.0, 68.0),
        Rung(Mode("hot", threads=quarter, affinity="little", frame_rate=15.0), 85.0, 76.0),
        Rung(Mode("critical", threads=1, affinity="little", frame_rate=5.0), 95.0, 82.0),
    ]
