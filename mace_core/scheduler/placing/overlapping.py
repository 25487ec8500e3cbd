"""Cuts pieces in two where the parts of one can run while another device works.

As few pieces as possible (`gather_pieces`) is best where one runs after the other.  It also gathers what needs nothing
from another device with what waits for it: then that device and this one never work at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

LEAST_SECONDS = 200e-6
"""What two devices must have to do at the same time: less is not worth one more piece, and telling another thread."""

_MOST_CUTS = 8
_MOST_PIECES = 32
"""Beyond this many pieces nothing is cut: there is no large one among them."""

Pieces = list[tuple[str, list[int]]]


def cut_for_overlap(
    pieces: Pieces, predecessors: Sequence[AbstractSet[int]], cells: Sequence[int], seconds: Sequence[float]
) -> Pieces:
    """The pieces, some of them cut in two; convex, and in an order in which they can run.

    Args:
        pieces: as of `gather_pieces`.
        predecessors: of each node.
        cells: nodes with equal numbers stay together.
        seconds: of each node on its device; 0 for what is not worth a cut.
    """
    if len(pieces) < 2 or len(pieces) > _MOST_PIECES:
        return pieces
    successors: list[set[int]] = [set() for _ in predecessors]
    for node, before in enumerate(predecessors):
        for other in before:
            successors[other].add(node)
    together: dict[int, list[int]] = {}
    for node, cell in enumerate(cells):
        together.setdefault(cell, []).append(node)
    for _ in range(_MOST_CUTS):
        took = [sum(seconds[node] for node in nodes) for _, nodes in pieces]
        best: tuple[float, int, list[int], list[int]] | None = None
        for number, (device, nodes) in enumerate(pieces):
            if took[number] < LEAST_SECONDS:
                continue
            behind, ahead = _reach(nodes, successors), _reach(nodes, predecessors)
            for other, (elsewhere, members) in enumerate(pieces):
                if elsewhere == device or took[other] < LEAST_SECONDS:
                    continue
                first, second, free = _parts(members, behind, ahead, together, cells, predecessors, successors)
                gain = min(took[number], sum(seconds[node] for node in free))
                if first and second and gain >= LEAST_SECONDS and (best is None or gain > best[0]):
                    best = gain, other, first, second
        if best is None:
            return pieces
        _, cut, first, second = best
        pieces = [*pieces[:cut], (pieces[cut][0], first), (pieces[cut][0], second), *pieces[cut + 1 :]]
    return pieces


def _parts(
    members: Sequence[int],
    behind: AbstractSet[int],
    ahead: AbstractSet[int],
    together: dict[int, list[int]],
    cells: Sequence[int],
    predecessors: Sequence[AbstractSet[int]],
    successors: Sequence[AbstractSet[int]],
) -> tuple[list[int], list[int], list[int]]:
    """A piece in two parts that can run one after the other, and which of them has nothing to do with another piece.

    Args:
        behind, ahead: what needs that other piece, and what it needs.
    """
    own = set(members)
    if late := own & behind:
        late = _closed(late, own, together, cells, successors)
        early = [node for node in members if node not in late]
        return early, [node for node in members if node in late], early
    head = _closed(own & ahead, own, together, cells, predecessors)
    tail = [node for node in members if node not in head]
    return [node for node in members if node in head], tail, tail


def _closed(
    start: AbstractSet[int],
    own: AbstractSet[int],
    together: dict[int, list[int]],
    cells: Sequence[int],
    neighbors: Sequence[AbstractSet[int]],
) -> set[int]:
    """With every node its cell, and what follows in one direction within the piece."""
    found: set[int] = set()
    pending = list(start)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += together[cells[node]]
            pending += neighbors[node] & own
    return found


def _reach(start: Sequence[int], neighbors: Sequence[AbstractSet[int]]) -> set[int]:
    found: set[int] = set()
    pending = list(start)
    while pending:
        for other in neighbors[pending.pop()]:
            if other not in found:
                found.add(other)
                pending.append(other)
    return found.difference(start)
