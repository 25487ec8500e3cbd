"""Time spans of one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a run.

    Attributes:
        name: the provider's name of the step, or what the core did ("transfer to …").
        source: names of the model's nodes it stands for; empty for transfers.
        device: where it ran; "core" for what the core did itself.
        start_ns, end_ns: of ``time.perf_counter_ns``.
    """

    name: str
    source: tuple[str, ...]
    device: str
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class Part:
    """What one worker of a device did of one step.

    Attributes:
        worker: its name: of a thread, a core or a queue.
        name, source, device, start_ns, end_ns: see `Span`.
    """

    worker: str
    name: str
    source: tuple[str, ...]
    device: str
    start_ns: int
    end_ns: int


@dataclass(slots=True, eq=False)
class Profile:
    """Filled by a run that it is given to.

    Attributes:
        spans: in the order in which they were reported.  Spans of control flow contain those of their bodies.
        parts: the same time seen from the workers of those devices that tell.
        start_ns, end_ns: the whole run.
        outputs: the run's results, where :meth:`Session.profile` made it.
    """

    spans: list[Span] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    start_ns: int = 0
    end_ns: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def work_end_ns(self) -> int:
        """When the last step ended: what comes after it in a profiled run is mostly telling of the steps."""
        return max((span.end_ns for span in self.spans), default=self.end_ns)

    def _repr_html_(self) -> str:
        from mace_core.scheduler.notebook import profile_html

        return profile_html(self)

    def recorder(self, device: str) -> Callable[[str, tuple[str, ...], int, int], None]:
        """A callback for bindings of a subgraph on ``device``."""

        def record(name: str, source: tuple[str, ...], start_ns: int, end_ns: int) -> None:
            self.spans.append(Span(name, source, device, start_ns, end_ns))

        return record

    def part_recorder(self, device: str) -> Callable[[str, str, tuple[str, ...], int, int], None]:
        """The same for what the workers of ``device`` did."""

        def record(worker: str, name: str, source: tuple[str, ...], start_ns: int, end_ns: int) -> None:
            self.parts.append(Part(worker, name, source, device, start_ns, end_ns))

        return record
