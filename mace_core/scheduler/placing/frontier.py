"""Optimal placement by dynamic programming over the frontier.

Units are decided one after the other in the order of computation.  What earlier decisions mean for later ones is where
each tensor that is still to be read lies: the frontier.  Networks are narrow, so a frontier has few tensors, and of all
ways to reach the same frontier only the cheapest matters.  Two bounds keep the table small without giving up the
optimum: a state that costs more than the best one and all moves that could be needed to get from the best one's
frontier to any other cannot win.  (The same idea as bucket elimination over a path decomposition: R. Dechter, "Bucket
elimination: a unifying framework for reasoning", 1999.)  A limit on the table, for graphs that are wide after all,
makes it a beam search; the result says which of the two it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from mace_core.scheduler.placing.problem import NOWHERE, Assignment, Problem

LIMIT = 64
"""States kept after each unit; more would seldom be needed for the optimum, and takes time."""

_Held: TypeAlias = "tuple[int, ...]"
"""For each tensor of the frontier the device that made it, and in the higher bits a mask of those that hold it."""

_MASK_SHIFT = 8
_MAKER = (1 << _MASK_SHIFT) - 1
_HOST = _MAKER  # the maker of what is fed


class Found(NamedTuple):
    """An assignment, its cost as the search counts it, and whether none can be cheaper by that count."""

    assignment: Assignment
    cost: float
    is_optimal: bool


class _State(NamedTuple):
    cost: float
    last: _Trail | None


class _Trail(NamedTuple):
    device: int
    before: _Trail | None


def cheapest(
    problem: Problem,
    costs: Sequence[Sequence[float]],
    *,
    scale: float = 1.0,
    penalty: float = 0.0,
    limit: int = LIMIT,
) -> Found:
    """The assignment with the least sum of costs of units, moved tensors and launches.

    A launch is counted for a unit that reads nothing made on its device: what follows on the same device joins the
    partition.

    Args:
        problem: the units and what ties them.
        costs: for each unit its cost on each device, in seconds or any other unit.
        scale: what a second of moving or launching costs, in that unit.
        penalty: seconds that a launch costs besides, to find placements of fewer partitions.
        limit: the most states that are kept after a unit.
    """
    last_reader = [max(tensor.readers, default=-1) for tensor in problem.tensors]
    states: dict[_Held, _State] = {(): _State(0.0, None)}
    frontier: tuple[int, ...] = ()
    is_optimal = True
    for unit in range(problem.units):
        turn = _Turn.of(problem, unit, frontier, costs[unit], last_reader, scale, penalty)
        after: dict[_Held, _State] = {}
        for held, state in states.items():
            turn.extend(held, state, after)
        frontier = turn.kept
        states, pruned = _pruned(after, _reach(problem, frontier, penalty) * scale, limit)
        is_optimal &= not pruned
    best = min(states.values(), key=lambda state: state.cost)
    return Found(_unrolled(best.last), best.cost, is_optimal)


class _Turn(NamedTuple):
    """What deciding one unit takes, worked out once for all states.

    Attributes:
        reads: for each tensor that the unit reads its place among ``held``, what was fed and what is made.
        moves: for each of those, seconds by maker and device (the last maker is the host).
        fed: how many tensors come to the frontier here because they are read for the first time.
        made: how many the unit makes.
        choices: device, the cost of the unit and of bringing its results to the host, and the cost of a launch.
        places: which of all those stay in the frontier.
        kept: their numbers.
    """

    reads: tuple[int, ...]
    moves: tuple[tuple[tuple[float, ...], ...], ...]
    fed: int
    made: int
    choices: tuple[tuple[int, float, float], ...]
    places: tuple[int, ...]
    kept: tuple[int, ...]

    @staticmethod
    def of(
        problem: Problem,
        unit: int,
        frontier: Sequence[int],
        costs: Sequence[float],
        last_reader: Sequence[int],
        scale: float,
        penalty: float,
    ) -> _Turn:
        count = len(problem.devices)
        fed = tuple(t for t in problem.inputs[unit] if t not in frontier)
        made = problem.outputs[unit]
        whole = (*frontier, *fed, *made)
        place = {tensor: i for i, tensor in enumerate(whole)}
        moves = tuple(
            tuple(
                tuple(scale * problem.moved(problem.tensors[t], source, target) for target in range(count))
                for source in (*range(count), -1)
            )
            for t in problem.inputs[unit]
        )
        results = [problem.tensors[t] for t in made if problem.tensors[t].is_result]
        choices = tuple(
            (
                device,
                costs[device] + scale * sum(problem.moved(tensor, device, -1) for tensor in results),
                scale * (problem.launch[device] + penalty),
            )
            for device in problem.can_run(unit)
            if costs[device] != NOWHERE
        )
        return _Turn(
            tuple(place[t] for t in problem.inputs[unit]),
            moves,
            len(fed),
            len(made),
            choices,
            tuple(i for i, t in enumerate(whole) if last_reader[t] > unit),
            tuple(t for t in whole if last_reader[t] > unit),
        )

    def extend(self, held: _Held, state: _State, after: dict[_Held, _State]) -> None:
        """Add to ``after`` what becomes of ``state`` with the unit on each device."""
        known = [*held, *([_HOST] * self.fed), *([0] * self.made)]
        first_made = len(held) + self.fed
        for device, cost, launch in self.choices:
            bit = 1 << device + _MASK_SHIFT
            now = known.copy()
            joins = False
            for place, moves in zip(self.reads, self.moves, strict=True):
                tensor = now[place]
                if tensor & bit:
                    joins = True
                    continue
                maker = tensor & _MAKER
                cost += moves[-1 if maker == _HOST else maker][device]
                now[place] = tensor | bit
            if not joins:
                cost += launch
            for place in range(first_made, len(now)):
                now[place] = device | bit
            key = tuple([now[place] for place in self.places])
            whole = state.cost + cost
            best = after.get(key)
            if best is None or whole < best.cost:
                after[key] = _State(whole, _Trail(device, state.last))


def _reach(problem: Problem, frontier: Sequence[int], penalty: float) -> float:
    """What it takes at most to make any state of the frontier out of any other: each tensor brought to each device,
    and a launch there."""
    devices = range(len(problem.devices))
    reach = 0.0
    for number in frontier:
        tensor = problem.tensors[number]
        sources = devices if tensor.producer >= 0 else (-1,)
        reach += max(sum(problem.moved(tensor, source, target) for target in devices) for source in sources)
        reach += sum(problem.launch) + penalty * len(devices)
    return reach


def _pruned(states: dict[_Held, _State], reach: float, limit: int) -> tuple[dict[_Held, _State], bool]:
    """Without what cannot win, and without what there is no room for; whether the latter happened."""
    most = min(state.cost for state in states.values()) + reach
    kept = {held: state for held, state in states.items() if state.cost <= most}
    if len(kept) <= limit:
        return kept, False
    cheapest_first = sorted(kept.items(), key=lambda item: item[1].cost)
    return dict(cheapest_first[:limit]), True


def _unrolled(trail: _Trail | None) -> Assignment:
    found: list[int] = []
    while trail is not None:
        found.append(trail.device)
        trail = trail.before
    return tuple(reversed(found))
