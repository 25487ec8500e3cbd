"""What observers receive: plain frozen data that keeps nothing of a session alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionEvent:
    """A model was split.

    Attributes:
        model: its path or name.
        signature: input name -> shape.
        parts: in execution order, the device's qualified name and the names of the nodes it was given.
        rejections: (node, device, reason), as in an explanation.
    """

    model: str
    signature: Mapping[str, tuple[int, ...]]
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    rejections: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CompileEvent:
    """A device compiled one subgraph (``error`` is "") or refused (``error`` says why)."""

    model: str
    device: str
    nodes: tuple[str, ...]
    seconds: float
    restored: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class FaultEvent:
    """A device failed in a run, or works again.

    Attributes:
        deed: what was done: the run was ``retried`` there, it was ``moved`` to other devices; the device is ``rested``
            from now on, or has ``resumed`` work; memory was ``relieved`` of what is kept for later.
        error: what it failed with; "" where it works again.
    """

    model: str
    device: str
    deed: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a run: start and end in nanoseconds (`time.perf_counter_ns`), the model's nodes it stands for."""

    device: str
    name: str
    nodes: tuple[str, ...]
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class RunProfile:
    """A profiled run: its steps in the order they ran."""

    model: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class GovernorState:
    """What a plugin that chooses the mode is told.

    Attributes:
        mode: the name of the mode now.
        modes: names of all modes, from ``full`` to the coolest.
        celsius: what the sensor shows.
        seconds: since the mode changed.
    """

    mode: str
    modes: tuple[str, ...]
    celsius: float
    seconds: float


@dataclass(frozen=True, slots=True)
class GovernorEvent:
    """The governor changed the mode.

    Attributes:
        before, after: names of the modes.
        reason: why, as part of a sentence.
        celsius: the latest reading; None where there was none.
        does: what runs do in the new mode, in words.
    """

    before: str
    after: str
    reason: str
    celsius: float | None
    does: str
