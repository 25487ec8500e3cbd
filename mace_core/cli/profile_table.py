"""Profiled runs as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.graph import Graph
    from mace_core.scheduler.profile import Profile

NAME_WIDTH = 60


@dataclass(frozen=True, slots=True)
class StepTime:
    """One step of a run, or all of one type.

    Attributes:
        position: its place in the run; None for a sum over a type.
        name: its name, or the first of the nodes it stands for; for a type, "".
        kind: the operators it stands for, joined by "+".
        seconds: mean over the profiled runs.
        macs: multiply-accumulates of its nodes, 0 where there are none.
        count: steps summed up.
    """

    position: int | None
    name: str
    kind: str
    device: str
    seconds: float
    macs: int
    count: int = 1
    nodes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "name": self.name,
            "type": self.kind,
            "device": self.device,
            "seconds": self.seconds,
            "macs": self.macs,
            "count": self.count,
            "nodes": list(self.nodes),
        }


def step_times(profiles: Sequence[Profile], macs: Mapping[str, int], operators: Mapping[str, str]) -> list[StepTime]:
    """Steps in the order they ran, each with its mean time.

    Runs whose steps differ (data decides them) can not be averaged; then the last run alone is told.  The
    multiply-accumulates of a node that several steps stand for (packing, the product itself) count at the longest.
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
    steps = []
    for position, span in enumerate(spans):
        work = sum(macs.get(node, 0) for node in span.source if longest[node] == position)
        known = [operators[node] for node in span.source if node in operators]
        kind = "+".join(dict.fromkeys(known)) or span.name.partition(" ")[0]
        steps.append(StepTime(position, _label(span.name), kind, span.device, seconds[position], work, 1, span.source))
    return steps


def by_type(steps: Sequence[StepTime]) -> list[StepTime]:
    """Sums per type and device, the longest first."""
    groups: dict[tuple[str, str], list[StepTime]] = {}
    for step in steps:
        groups.setdefault((step.kind, step.device), []).append(step)
    sums = [
        StepTime(None, "", kind, device, sum(s.seconds for s in group), sum(s.macs for s in group), len(group))
        for (kind, device), group in groups.items()
    ]
    return sorted(sums, key=lambda row: -row.seconds)


def operators_of(graph: Graph) -> dict[str, str]:
    """Operator by node name, nested graphs included."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        found[node.name] = node.qualified_op
        for body in node.subgraphs():
            found |= operators_of(body)
    return found


def _label(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"…{name[-NAME_WIDTH + 1 :]}"
