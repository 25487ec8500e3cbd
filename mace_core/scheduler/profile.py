"""Time spans of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral
from types import MappingProxyType
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

    def recorder(
        self, device: str, source_map: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ) -> Callable[[str, tuple[str, ...], int, int], None]:
        """A callback for bindings of a subgraph on ``device``; ``source_map`` has the nodes of spans that come without
        them."""

        def record(name: str, source: tuple[str, ...], start_ns: int, end_ns: int) -> None:
            what = _checked("profile", name, source_map.get(name, ()) if source == () else source)
            self.spans.append(Span(*what, device, *_times("profile", start_ns, end_ns)))

        return record

    def part_recorder(
        self, device: str, source_map: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    ) -> Callable[[str, str, tuple[str, ...], int, int], None]:
        """The same for what the workers of ``device`` did."""

        def record(worker: str, name: str, source: tuple[str, ...], start_ns: int, end_ns: int) -> None:
            what = _checked("profile_part", name, source_map.get(name, ()) if source == () else source)
            where = _times("profile_part", start_ns, end_ns)
            if not isinstance(worker, str):
                raise TypeError(f"profile_part was given {worker!r} for the name of a worker")
            self.parts.append(Part(worker, *what, device, *where))

        return record


def _checked(callback: str, name: object, source: object) -> tuple[str, tuple[str, ...]]:
    """Name and source nodes of a step as a provider tells them.

    Raises:
        TypeError: if they are something else; the provider, which made the call, gets the error.
    """
    if not isinstance(name, str):
        raise TypeError(f"{callback} was given {name!r} for the name of a step")
    nodes = tuple(source) if isinstance(source, Iterable) and not isinstance(source, str) else (None,)
    if not all(isinstance(node, str) for node in nodes):
        raise TypeError(f"{callback} was given {source!r} for the names of nodes")
    return name, nodes


def _times(callback: str, start_ns: object, end_ns: object) -> tuple[int, int]:
    if not isinstance(start_ns, Integral) or not isinstance(end_ns, Integral):
        raise TypeError(f"{callback} was given {start_ns!r} and {end_ns!r} for the times of a step")
    return int(start_ns), int(end_ns)
