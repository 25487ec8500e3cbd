"""Profiled runs as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.report.model_facts import ModelFacts
    from mace_core.scheduler.profile import Profile, Span


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a run, or all of one type.

    Attributes:
        position: its place in the run; None for a sum over a type.
        name: its name or, where that only repeats the operators, the first of the nodes it stands for; for a type, "".
        kind: the operators it stands for, joined by "+".
        shape: of what it computes; "" where that is not known.
        seconds: mean over the profiled runs.
        macs: multiply-accumulates of its nodes, 0 where there are none.
        peak: multiply-accumulates a second that its device can do; None where that is not known.
        count: steps summed up.
    """

    position: int | None
    name: str
    kind: str
    shape: str
    device: str
    seconds: float
    macs: int
    peak: float | None = None
    count: int = 1
    nodes: tuple[str, ...] = ()

    @property
    def speed(self) -> float | None:
        """Multiply-accumulates a second; None for what has none."""
        return self.macs / self.seconds if self.macs and self.seconds else None

    @property
    def share_of_peak(self) -> float | None:
        return self.speed / self.peak if self.speed and self.peak else None

    def as_data(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "name": self.name,
            "type": self.kind,
            "shape": self.shape or None,
            "device": self.device,
            "seconds": self.seconds,
            "macs": self.macs,
            "gmac_per_second": self.speed / 1e9 if self.speed else None,
            "share_of_peak": self.share_of_peak,
            "count": self.count,
            "nodes": list(self.nodes),
        }


def step_times(profiles: Sequence[Profile], facts: ModelFacts, peaks: Mapping[str, float]) -> list[StepTime]:
    """Steps in the order they ran, each with its mean time.

    Runs whose steps differ (data decides them) cannot be averaged; then only the last run is shown.  The
    multiply-accumulates of a node that several steps stand for (packing, the product itself) count at the longest.

    Args:
        peaks: multiply-accumulates a second by device, of those that have a figure.
    """
    same = all([s.name for s in p.spans] == [s.name for s in profiles[-1].spans] for p in profiles)
    used = profiles if same else profiles[-1:]
    spans = used[-1].spans
    seconds = [sum(p.spans[i].duration_ns for p in used) / len(used) / 1e9 for i in range(len(spans))]
    longest: dict[str, int] = {}
    for position, span in enumerate(spans):
        for node in span.source:
            if node not in longest or seconds[position] > seconds[longest[node]]:
                longest[node] = position
    return [
        StepTime(
            position=position,
            name=_label(span, facts),
            kind=facts.kind(span.name, span.source),
            shape=facts.shape(span.source),
            device=span.device,
            seconds=seconds[position],
            macs=sum(facts.macs.get(node, 0) for node in span.source if longest[node] == position),
            peak=peaks.get(span.device),
            nodes=span.source,
        )
        for position, span in enumerate(spans)
    ]


def by_type(steps: Sequence[StepTime]) -> list[StepTime]:
    """Sums per type and device, the longest first."""
    groups: dict[tuple[str, str], list[StepTime]] = {}
    for step in steps:
        groups.setdefault((step.kind, step.device), []).append(step)
    sums = [
        StepTime(
            position=None,
            name="",
            kind=kind,
            shape="",
            device=device,
            seconds=sum(s.seconds for s in group),
            macs=sum(s.macs for s in group),
            peak=group[0].peak,
            count=len(group),
        )
        for (kind, device), group in groups.items()
    ]
    return sorted(sums, key=lambda row: -row.seconds)


def _label(span: Span, facts: ModelFacts) -> str:
    return span.source[0] if span.source and span.name == facts.kind(span.name, span.source) else span.name
