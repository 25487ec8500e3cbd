"""QNN's profile of a run as spans on the host's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mace_hexagon.qnn.profiling import ProfileEvent

_NODE = 404
_HTP_MICROSECONDS = 3004
_NAME_END = " (cycles)"
_NUMBER = "OpId_"

CALL = "QNN call"
"""The part of a run in which the HTP does not compute: its call, from the processor and back."""


class Step(NamedTuple):
    """A part of a run; ``name`` is that of a QNN operation, `CALL`, or that of the graph."""

    name: str
    start_ns: int
    end_ns: int


def steps(events: Sequence[ProfileEvent], graph: str, start_ns: int, end_ns: int) -> list[Step]:
    """The call, then the operations in QNN's order.

    QNN tells how many cycles each operation took and not when: they are laid one behind the other, over the time that
    the HTP computed, which is laid at the end of the run.  An operation of 0 cycles was computed within another.

    Args:
        graph: name of the step that stands for all operations where there is nothing about them.
        start_ns, end_ns: when the run was called and when it returned.
    """
    micros = next((event.value for event in events if event.kind == _HTP_MICROSECONDS), None)
    begun = start_ns if micros is None else max(start_ns, end_ns - micros * 1000)
    found = [Step(CALL, start_ns, begun)] if begun > start_ns else []
    nodes = next((parts for event in events if (parts := _nodes(event))), [])
    total = sum(node.value for node in nodes)
    if not total:
        return [*found, Step(graph, begun, end_ns)]
    done = 0
    for node in nodes:
        first = begun + (end_ns - begun) * done // total
        done += node.value
        found.append(Step(operation(node.name), first, begun + (end_ns - begun) * done // total))
    return found


def operation(identifier: str) -> str:
    """The name that an operation was given, from QNN's ``name:OpId_23 (cycles)``; its inputs and outputs come as
    ``Input OpId_2 (cycles)``."""
    name, found, _ = identifier.removesuffix(_NAME_END).rpartition(_NUMBER)
    return name.removesuffix(":").rstrip() if found else identifier


def _nodes(event: ProfileEvent) -> list[ProfileEvent]:
    return [part for part in event.parts if part.kind == _NODE]
