"""The cheapest way to divide nodes in two."""

from __future__ import annotations

from collections import deque

UNLIMITED = 1 << 62


class Cut:
    """A network whose minimum cut is looked for: E. A. Dinic, "Algorithm for solution of a problem of maximum flow in
    networks with power estimation", 1970.

    Node 0 is the source, 1 the sink.
    """

    def __init__(self) -> None:
        self._heads: list[int] = []
        self._room: list[int] = []
        self._edges: list[list[int]] = [[], []]

    def node(self) -> int:
        """A new node."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, begin: int, end: int, capacity: int) -> None:
        """What it costs if ``begin`` is on the source's side and ``end`` on the sink's."""
        for at, (here, there, room) in enumerate(((begin, end, capacity), (end, begin, 0)), len(self._heads)):
            self._heads.append(there)
            self._room.append(room)
            self._edges[here].append(at)

    def sink_side(self) -> set[int]:
        """The fewest nodes that are on the sink's side in a cheapest cut."""
        while self._augment():
            pass
        reaching, queue = {1}, deque([1])
        while queue:
            for edge in self._edges[queue.popleft()]:
                other = self._heads[edge]
                if self._room[edge ^ 1] and other not in reaching:
                    reaching.add(other)
                    queue.append(other)
        return reaching

    def _augment(self) -> bool:
        """Let as much flow as the shortest ways carry."""
        level = {0: 0}
        queue = deque([0])
        while queue:
            here = queue.popleft()
            for edge in self._edges[here]:
                if self._room[edge] and self._heads[edge] not in level:
                    level[self._heads[edge]] = level[here] + 1
                    queue.append(self._heads[edge])
        if 1 not in level:
            return False
        tried = [0] * len(self._edges)
        while self._push(level, tried):
            pass
        return True

    def _push(self, level: dict[int, int], tried: list[int]) -> bool:
        """Flow along one way; without recursion, since ways are as long as models are deep."""
        way: list[int] = []
        here = 0
        while here != 1:
            edges = self._edges[here]
            while tried[here] < len(edges):
                edge = edges[tried[here]]
                if self._room[edge] and level.get(self._heads[edge]) == level[here] + 1:
                    break
                tried[here] += 1
            if tried[here] < len(edges):
                way.append(edge)
                here = self._heads[edge]
            elif way:
                here = self._heads[way.pop() ^ 1]
                tried[here] += 1
            else:
                return False
        flow = min(self._room[edge] for edge in way)
        for edge in way:
            self._room[edge] -= flow
            self._room[edge ^ 1] += flow
        return True
