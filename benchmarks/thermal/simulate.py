"""A stream of frames on the simulated device, under the governor's own ladder or under none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.thermal.network import power, small_device
from mace_core.governor import Ladder, Mode

READING_SECONDS = 1.0
"""The governor's own period."""


@dataclass(frozen=True, slots=True)
class FrameCost:
    """What a frame costs in a mode: seconds of processors together, and threads that share it."""

    processor_seconds: float
    threads: int

    @property
    def seconds(self) -> float:
        """From its beginning to its end, where nothing else runs and the threads share it evenly."""
        return self.processor_seconds / self.threads


@dataclass(slots=True)
class Course:
    """What happened, second by second.

    Attributes:
        die, skin: degrees Celsius.
        frames: a second.
        modes: names.
    """

    die: list[float] = field(default_factory=list)
    skin: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)

    def last(self, seconds: int) -> tuple[float, float, float]:
        """Means over the last seconds: die, skin, frames a second."""
        parts = (self.die[-seconds:], self.skin[-seconds:], self.frames[-seconds:])
        die, skin, frames = (sum(part) / len(part) for part in parts)
        return die, skin, frames


def simulate(
    costs: Mapping[str, FrameCost], frame_rate: float, seconds: int, ladder: Ladder | None, ambient: float = 25.0
) -> Course:
    """Run the stream for ``seconds`` of the simulated clock.

    Args:
        costs: by name of mode.
        frame_rate: frames a second that the source gives; those that there is no time for are dropped.
        ladder: what the governor decides with; None: no governor.
    """
    device, course = small_device(ambient), Course()
    mode = ladder.mode if ladder is not None else Mode("full")
    for second in range(seconds):
        if ladder is not None:
            mode = ladder.update(float(second), device.temperatures["die"])
        cost = costs[mode.name]
        frames = min(frame_rate, mode.frame_rate or frame_rate, 1 / cost.seconds)
        device.advance(READING_SECONDS, power(frames * cost.processor_seconds))
        course.die.append(device.temperatures["die"])
        course.skin.append(device.temperatures["skin"])
        course.frames.append(frames)
        course.modes.append(mode.name)
    return course
