"""Which node reads what which other node wrote, and an order in which they can run."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_core.scheduler.explain import NodeExplanation


@dataclass(frozen=True, slots=True)
class Wiring:
    """Nodes by number, in the order in which they can run.

    Attributes:
        nodes: what was explained of each.
        values: writer, name and readers of each value that a node writes.
        edges: from a node to one that reads of it, or lies in a body of it; each pair once, all of them forward.
    """

    nodes: tuple[NodeExplanation, ...]
    values: tuple[tuple[int, str, tuple[int, ...]], ...]
    edges: tuple[tuple[int, int], ...]


def wire(explained: Sequence[NodeExplanation]) -> Wiring:
    """Join nodes by the names of values: those of their own scope first, then of the scopes around it."""
    writers: dict[tuple[str, str], int] = {}
    anywhere: dict[str, int] = {}
    for index, node in enumerate(explained):
        for name in node.outputs:
            writers[node.scope, name] = index
            anywhere.setdefault(name, index)
    readers: dict[tuple[int, str], list[int]] = {}
    edges: dict[tuple[int, int], None] = {}
    for index, node in enumerate(explained):
        for name in dict.fromkeys(node.inputs):
            writer = _writer(writers, anywhere, node.scope, name)
            if writer is not None and writer != index:
                edges[writer, index] = None
                readers.setdefault((writer, name), []).append(index)
    fed = {target for _, target in edges}
    names = {(node.scope, node.node): index for index, node in enumerate(explained)}
    for index, node in enumerate(explained):
        owner = _owner(names, node.scope)
        if owner is not None and owner != index and index not in fed:
            edges[owner, index] = None
    order = _order(explained, edges)
    place = {old: new for new, old in enumerate(order)}
    forward = sorted((place[a], place[b]) for a, b in edges if place[a] < place[b])
    values = tuple(
        (place[index], name, tuple(sorted(place[reader] for reader in readers.get((index, name), ()))))
        for index in order
        for name in explained[index].outputs
    )
    return Wiring(tuple(explained[index] for index in order), values, tuple(forward))


def _writer(writers: Mapping[tuple[str, str], int], anywhere: Mapping[str, int], scope: str, name: str) -> int | None:
    while True:
        if (found := writers.get((scope, name))) is not None:
            return found
        if not scope:
            return anywhere.get(name)  # of an If whose branch took its place: its values have left their scope
        scope = scope.rpartition("/")[0]


def _owner(names: Mapping[tuple[str, str], int], scope: str) -> int | None:
    """The control-flow node in whose body a scope is; names of nodes may hold slashes and dots themselves."""
    position = len(scope)
    while position > 0:
        position = scope.rfind("/", 0, position)
        around, last = scope[: max(position, 0)], scope[position + 1 :]
        while "." in last:
            last = last.rpartition(".")[0]
            if (found := names.get((around, last))) is not None:
                return found
    return None


def _order(explained: Sequence[NodeExplanation], edges: Mapping[tuple[int, int], None]) -> list[int]:
    """Topological, partition by partition as far as that can be; what lies in a circle comes last."""
    waits = [0] * len(explained)
    after: list[list[int]] = [[] for _ in explained]
    for source, target in edges:
        waits[target] += 1
        after[source].append(target)
    ready = [(node.partition, index) for index, node in enumerate(explained) if not waits[index]]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        _, index = heapq.heappop(ready)
        order.append(index)
        for target in after[index]:
            waits[target] -= 1
            if not waits[target]:
                heapq.heappush(ready, (explained[target].partition, target))
    return order + sorted(set(range(len(explained))) - set(order))
