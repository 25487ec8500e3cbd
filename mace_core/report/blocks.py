"""A large graph in pieces that can each be looked at: a tree of intervals of the order in which nodes run.

What lies in such an interval is convex: the graph of the pieces has no circle, whatever the graph is.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.scheduler.explain import NodeExplanation

ALL_AT_ONCE = 400
"""Nodes of a model that is shown whole."""

PIECES = 60
"""The most pieces, or nodes, that a piece of a larger one is shown as."""


@dataclass(frozen=True, slots=True)
class Block:
    """Nodes ``first`` to ``last - 1``, and the pieces they come in; none where the nodes themselves are shown."""

    label: str
    first: int
    last: int
    pieces: tuple[Block, ...] = ()

    def as_data(self) -> list[Any]:
        return [self.label, self.first, self.last, [piece.as_data() for piece in self.pieces]]


def blocks_of(nodes: Sequence[NodeExplanation]) -> Block:
    """The tree: partitions first, then pieces of about the same size."""
    if len(nodes) <= ALL_AT_ONCE:
        return Block("all nodes", 0, len(nodes))
    starts = [0] + [i for i in range(1, len(nodes)) if nodes[i].partition != nodes[i - 1].partition] + [len(nodes)]
    parts = [_split(nodes, first, last) for first, last in itertools.pairwise(starts)]
    if len(parts) == 1:
        return Block("all nodes", 0, len(nodes), parts[0].pieces)
    return Block("all nodes", 0, len(nodes), _gathered(nodes, parts))


def _split(nodes: Sequence[NodeExplanation], first: int, last: int) -> Block:
    count = last - first
    if count <= PIECES:
        return Block(_label(nodes, first, last), first, last)
    pieces = min(PIECES, -(-count // PIECES)) if count <= PIECES * PIECES else PIECES
    cuts = [first + count * number // pieces for number in range(pieces + 1)]
    inner = tuple(_split(nodes, a, b) for a, b in itertools.pairwise(cuts))
    return Block(_label(nodes, first, last), first, last, inner)


def _gathered(nodes: Sequence[NodeExplanation], parts: Sequence[Block]) -> tuple[Block, ...]:
    """Neighbors put together until there are few enough."""
    while len(parts) > PIECES:
        size = min(PIECES, max(2, -(-len(parts) // PIECES)))
        groups = [parts[start : start + size] for start in range(0, len(parts), size)]
        parts = [
            Block(_label(nodes, group[0].first, group[-1].last), group[0].first, group[-1].last, tuple(group))
            for group in groups
        ]
    return tuple(parts)


def _label(nodes: Sequence[NodeExplanation], first: int, last: int) -> str:
    counted = Counter(node.op for node in nodes[first:last]).most_common()
    shown = ", ".join(f"{op} ×{count}" if count > 1 else op for op, count in counted[:3])
    return shown + (" …" if len(counted) > 3 else "")
