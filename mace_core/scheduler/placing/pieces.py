"""Gathers placed nodes into few convex pieces without a cycle among them.

Works on node indices only.  Cells (nodes that must stay together) are first contracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

_MERGE_LIMIT = 256
"""Beyond this many pieces the pairwise search for further merges is left out (it is quadratic)."""


def gather_pieces(
    devices: Sequence[str],
    predecessors: Sequence[AbstractSet[int]],
    cells: Sequence[int],
    *,
    alone: str,
    merge_limit: int = _MERGE_LIMIT,
) -> list[tuple[str, list[int]]]:
    """Pieces ``(device, node indices)`` in an order in which they can run.

    Args:
        devices: of each node.
        predecessors: of each node; nodes are numbered in a topological order.
        cells: nodes with equal numbers stay together; contracting them makes no cycle.
        alone: nodes of this device are never gathered: one piece each.
        merge_limit: the most pieces among which pairs that can be merged are looked for.
    """
    members: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        members.setdefault(cell, []).append(index)
    before: Sequence[AbstractSet[int]] = predecessors
    groups = list(members.values())
    if len(groups) < len(cells):  # else each node is a cell, numbered as it is
        place = {cell: number for number, cell in enumerate(members)}
        own = [place[cell] for cell in cells]
        before = [{own[p] for index in group for p in predecessors[index]} - {n} for n, group in enumerate(groups)]
    device_of = [devices[group[0]] for group in groups]
    after: list[list[int]] = [[] for _ in groups]
    for cell, needed in enumerate(before):
        for predecessor in needed:
            after[predecessor].append(cell)
    starts = dict.fromkeys(device for device, needed in zip(device_of, before, strict=True) if not needed)
    orders = [_drain(before, after, device_of, start, alone) for start in starts] or [[]]
    best = min(orders, key=len)
    if len(best) <= merge_limit:
        best = _merge(best, before, alone)
    return [(device, sorted(i for cell in piece for i in groups[cell])) for device, piece in best]


def single_pieces(
    devices: Sequence[str], predecessors: Sequence[set[int]], cells: Sequence[int]
) -> list[tuple[str, list[int]]]:
    """Every cell by itself, in an order in which they can run; arguments and result as of :func:`gather_pieces`."""
    members: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        members.setdefault(cell, []).append(index)
    placed: dict[int, None] = {}
    for index in range(len(cells)):
        pending = [cells[index]]
        while pending:
            cell = pending[-1]
            needed = {cells[p] for member in members[cell] for p in predecessors[member]} - {cell}
            missing = [other for other in needed if other not in placed]
            if cell in placed or not missing:
                placed.setdefault(cell)
                pending.pop()
            else:
                pending += missing
    return [(devices[members[cell][0]], members[cell]) for cell in placed]


def _drain(
    before: Sequence[AbstractSet[int]],
    after: Sequence[Sequence[int]],
    device_of: Sequence[str],
    start: str,
    alone: str,
) -> list[tuple[str, list[int]]]:
    """Take all that is ready on one device, and what becomes ready there by that; then switch to another device."""
    waiting = [len(needed) for needed in before]
    ready: dict[str, list[int]] = {}
    for cell, count in enumerate(waiting):
        if not count:
            ready.setdefault(device_of[cell], []).append(cell)
    pieces: list[tuple[str, list[int]]] = []
    device = start
    while ready:
        queue = ready.pop(device)
        piece: list[int] = []
        while queue:
            cell = queue.pop()
            piece.append(cell)
            for follower in after[cell]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    same = device_of[follower] == device
                    (queue if same else ready.setdefault(device_of[follower], [])).append(follower)
            if device == alone:
                break
        if queue:
            ready[device] = queue
        pieces.append((device, piece))
        if ready:
            # Control flow first: it runs alone in any case, and what it unlocks may join what waits.
            device = alone if alone in ready else max(ready, key=lambda name: len(ready[name]))
    return pieces


def _merge(
    pieces: list[tuple[str, list[int]]], before: Sequence[AbstractSet[int]], alone: str
) -> list[tuple[str, list[int]]]:
    """Merge pairs of one device between which no other piece must run, until there is none."""
    merged = True
    while merged:
        merged = False
        home = {cell: index for index, (_, piece) in enumerate(pieces) for cell in piece}
        direct = [{home[p] for cell in piece for p in before[cell]} - {i} for i, (_, piece) in enumerate(pieces)]
        ancestors: list[int] = []
        for index in range(len(pieces)):  # pieces stand in a topological order
            mask = 0
            for predecessor in direct[index]:
                mask |= ancestors[predecessor] | 1 << predecessor
            ancestors.append(mask)
        for second in range(len(pieces)):
            for first in range(second):
                if pieces[first][0] != pieces[second][0] or pieces[first][0] == alone:
                    continue
                between = [
                    m for m in range(first + 1, second) if ancestors[second] >> m & 1 and ancestors[m] >> first & 1
                ]
                if not between:
                    pieces = _joined(pieces, first, second, ancestors)
                    merged = True
                    break
            if merged:
                break
    return pieces


def _joined(
    pieces: list[tuple[str, list[int]]], first: int, second: int, ancestors: Sequence[int]
) -> list[tuple[str, list[int]]]:
    """``second`` joined to ``first``; what ``second`` needs from the pieces between them is moved before both."""
    needed = [m for m in range(first + 1, second) if ancestors[second] >> m & 1]
    others = [m for m in range(first + 1, second) if m not in needed]
    whole = (pieces[first][0], pieces[first][1] + pieces[second][1])
    return [
        *pieces[:first],
        *(pieces[m] for m in needed),
        whole,
        *(pieces[m] for m in others),
        *pieces[second + 1 :],
    ]
