"""Cuts pieces in two where the parts of one can run while another device works.

As few pieces as possible (`gather_pieces`) is best where one runs after the other.  It also gathers what needs nothing
from another device with what waits for it: then that device and this one never work at the same time.

Sets of nodes are the bits of a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

LEAST_SECONDS = 200e-6
"""What two devices must have to do at the same time: less is not worth one more piece, and telling another thread."""

_MOST_CUTS = 8
_MOST_PIECES = 32
"""Beyond this many pieces nothing is cut: there is no large one among them."""

Pieces = list[tuple[str, list[int]]]


class Ways(NamedTuple):
    """For each node all that it needs, and all that needs it, by any way."""

    before: Sequence[int]
    behind: Sequence[int]


def ways_of(predecessors: Sequence[AbstractSet[int]]) -> Ways:
    """All ways in a graph, from its edges."""
    before: list[int] = []
    for needed in predecessors:
        mask = 0
        for node in needed:
            mask |= before[node] | 1 << node
        before.append(mask)
    behind = [0] * len(before)
    for node in reversed(range(len(before))):
        mask = behind[node] | 1 << node
        for other in predecessors[node]:
            behind[other] |= mask
    return Ways(before, behind)


class _Piece(NamedTuple):
    """A piece while it may be cut: its nodes, what needs some of them, and what some of them need."""

    device: str
    nodes: list[int]
    own: int
    behind: int
    ahead: int
    took: float


def cut_for_overlap(
    pieces: Pieces,
    predecessors: Sequence[AbstractSet[int]],
    cells: Sequence[int],
    seconds: Sequence[float],
    ways: Ways | None = None,
) -> Pieces:
    """The pieces, some of them cut in two; convex, and in an order in which they can run.

    Args:
        pieces: as of `gather_pieces`.
        predecessors: of each node.
        cells: nodes with equal numbers stay together.
        seconds: of each node on its device; 0 for what is not worth a cut.
        ways: of `ways_of`, where they are known.
    """
    if len(pieces) < 2 or len(pieces) > _MOST_PIECES:
        return pieces
    if sum(sum(seconds[node] for node in nodes) >= LEAST_SECONDS for _, nodes in pieces) < 2:
        return pieces
    ways = ways or ways_of(predecessors)
    together = _Cells(cells)
    known = [_piece(device, nodes, seconds, ways) for device, nodes in pieces]
    for _ in range(_MOST_CUTS):
        best: tuple[float, int, int, int] | None = None
        for first in known:
            if first.took < LEAST_SECONDS:
                continue
            for number, second in enumerate(known):
                most = min(first.took, second.took)
                if second.device == first.device or most < LEAST_SECONDS or (best is not None and most <= best[0]):
                    continue
                early, late, free = _parts(second, first, together, ways)
                if not early or not late:
                    continue
                gain = min(first.took, sum(seconds[node] for node in second.nodes if free >> node & 1))
                if gain >= LEAST_SECONDS and (best is None or gain > best[0]):
                    best = gain, number, early, late
        if best is None:
            break
        _, cut, early, late = best
        device = known[cut].device
        parts = [[node for node in known[cut].nodes if part >> node & 1] for part in (early, late)]
        known[cut : cut + 1] = [_piece(device, nodes, seconds, ways) for nodes in parts]
    return [(piece.device, piece.nodes) for piece in known]


def _piece(device: str, nodes: list[int], seconds: Sequence[float], ways: Ways) -> _Piece:
    own = behind = ahead = 0
    for node in nodes:
        own |= 1 << node
        behind |= ways.behind[node]
        ahead |= ways.before[node]
    return _Piece(device, nodes, own, behind & ~own, ahead & ~own, sum(seconds[node] for node in nodes))


class _Cells:
    """Which nodes stay together; nothing is looked up where each is by itself."""

    def __init__(self, cells: Sequence[int]) -> None:
        members: dict[int, int] = {}
        for node, cell in enumerate(cells):
            members[cell] = members.get(cell, 0) | 1 << node
        self.of = None if len(members) == len(cells) else [members[cell] for cell in cells]


def _parts(piece: _Piece, other: _Piece, cells: _Cells, ways: Ways) -> tuple[int, int, int]:
    """A piece in two parts that can run one after the other, and which of them has nothing to do with another piece."""
    if late := piece.own & other.behind:
        late = _closed(late, piece.own, cells, ways.behind)
        early = piece.own & ~late
        return early, late, early
    head = _closed(piece.own & other.ahead, piece.own, cells, ways.before)
    tail = piece.own & ~head
    return head, tail, tail


def _closed(start: int, own: int, cells: _Cells, ways: Sequence[int]) -> int:
    """With every node its cell, and what follows in one direction within the piece.

    What follows a piece's nodes is in ``start`` anyway; only cells can bring more.
    """
    if cells.of is None:
        return start
    found, news = start, start
    while news:
        more = 0
        for node in _nodes(news):
            more |= cells.of[node] | ways[node] & own
        news = more & ~found
        found |= more
    return found


def _nodes(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
