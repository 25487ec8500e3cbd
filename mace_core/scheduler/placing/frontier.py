"""Optimal placement by dynamic programming over the frontier.

Units are decided one after the other in the order of computation.  What earlier decisions mean for later ones is where
each tensor that is still to be read lies: the frontier.  Networks are narrow, so a frontier has few tensors, and of all
ways to reach the same frontier only the cheapest matters.  Two bounds keep the table small without giving up the
optimum: a state that costs more than the best one and all moves that could be needed to get from the best one's
frontier to any other cannot win.  (The same idea as bucket elimination over a path decomposition: R. Dechter, "Bucket
elimination: a unifying framework for reasoning", 1999.)  A limit on the table, for graphs that are wide after all,
makes it a beam search; the result says which of the two it was.

A state is one number.  Each tensor of the frontier has a field of bits in it while it is there: who made it, and which
devices hold it.  What a unit costs depends on the fields that it reads alone, so it is worked out once for each
content of these, and a step from state to state is a look-up and two operations on bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from mace_core.scheduler.placing.problem import NOWHERE, Assignment, Problem

LIMIT = 64
"""States kept after each unit; more would seldom be needed for the optimum, and takes time."""


class Found(NamedTuple):
    """An assignment, its cost as the search counts it, and whether none can be cheaper by that count."""

    assignment: Assignment
    cost: float
    is_optimal: bool


class _Read(NamedTuple):
    """A tensor that a unit reads: where its field is (-1: it is fed, and read for the first time), and seconds by maker
    and device."""

    shift: int
    moves: tuple[tuple[float, ...], ...]


class _Turn(NamedTuple):
    """What deciding one unit takes, worked out once for all searches.

    Attributes:
        reads: the tensors that it reads.
        read_bits, kept_bits: masks of their fields, and of the fields that stay.
        devices: that can run the unit.
        bits: for each of these what it adds to the fields.
        results: for each of these seconds to bring what the unit makes for the host there.
        reach: the most that it takes to make any state of the frontier out of any other, without penalties.
        fields: how many tensors are in the frontier.
        moving: by content of the fields read, for each device what moving takes; filled as it is needed.
    """

    reads: tuple[_Read, ...]
    read_bits: int
    kept_bits: int
    devices: tuple[int, ...]
    bits: tuple[int, ...]
    results: tuple[float, ...]
    reach: float
    fields: int
    moving: dict[int, list[tuple[int, int, float, bool]]]


class Frontier:
    """The searches of one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._count = len(problem.devices)
        self._turns = _turns(problem)

    def cheapest(
        self,
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
            costs: for each unit its cost on each device, in seconds or any other unit.
            scale: what a second of moving or launching costs, in that unit.
            penalty: seconds that a launch costs besides, to find placements of fewer partitions.
            limit: the most states that are kept after a unit.
        """
        count = self._count
        launches = [scale * (launch + penalty) for launch in self.problem.launch]
        states: dict[int, tuple[float, int, int]] = {0: (0.0, 0, 0)}
        before: list[dict[int, tuple[float, int, int]]] = []
        is_optimal = True
        for turn, row in zip(self._turns, costs, strict=True):
            added: dict[int, list[tuple[float, int, int]]] = {}
            after: dict[int, tuple[float, int, int]] = {}
            read_bits, kept_bits = turn.read_bits, turn.kept_bits
            for state, (spent, _, _) in states.items():
                content = state & read_bits
                options = added.get(content)
                if options is None:
                    options = added[content] = _options(turn, content, row, launches, scale, count)
                kept = state & kept_bits
                for cost, bits, device in options:
                    key = kept | bits
                    whole = spent + cost
                    best = after.get(key)
                    if best is None or whole < best[0]:
                        after[key] = (whole, state, device)
            states = after
            if len(after) > 1:
                spent_each = sorted([value[0] for value in after.values()])
                most = spent_each[0] + scale * (turn.reach + penalty * count * turn.fields)
                if len(after) > limit and spent_each[limit] <= most:
                    most, is_optimal = spent_each[limit - 1], False
                if spent_each[-1] > most:
                    states = {key: value for key, value in after.items() if value[0] <= most}
                if len(states) > 2 * limit:  # many of one cost
                    states = dict(islice(states.items(), limit))
            before.append(states)
        last, (cost, _, _) = min(states.items(), key=_spent)
        return Found(_unrolled(before, last), cost, is_optimal)


def _spent(item: tuple[int, tuple[float, int, int]]) -> float:
    return item[1][0]


def cheapest(
    problem: Problem,
    costs: Sequence[Sequence[float]],
    *,
    scale: float = 1.0,
    penalty: float = 0.0,
    limit: int = LIMIT,
) -> Found:
    """One search; see `Frontier.cheapest`."""
    return Frontier(problem).cheapest(costs, scale=scale, penalty=penalty, limit=limit)


def _turns(problem: Problem) -> list[_Turn]:
    count = len(problem.devices)
    host = count  # the maker of what is fed
    width = count + (count + 1).bit_length()
    field = (1 << width) - 1
    last_reader = [max(tensor.readers, default=-1) for tensor in problem.tensors]
    devices = range(count)
    moves = [
        tuple(
            tuple(problem.moved(tensor, source, target) for target in devices)
            for source in ((*devices, -1) if tensor.producer >= 0 else (-1,) * (count + 1))
        )
        for tensor in problem.tensors
    ]
    reaches = [max(map(sum, table)) + sum(problem.launch) for table in moves]
    shifts: dict[int, int] = {}  # of the tensors in the frontier
    free: list[int] = []
    used, in_use, reach = 0, 0, 0.0
    found: list[_Turn] = []
    for unit in range(problem.units):
        runs = problem.can_run(unit)
        read_bits, reads, fresh = 0, [], []
        ending: list[int] = []
        for number in problem.inputs[unit]:
            shift = shifts.get(number, -1)
            reads.append(_Read(shift, moves[number]))
            if shift >= 0:
                read_bits |= field << shift
                if last_reader[number] <= unit:
                    ending.append(number)
            elif last_reader[number] > unit:
                fresh.append((number, host))
        kept_bits = in_use
        for number in ending:
            shift = shifts.pop(number)
            kept_bits &= ~(field << shift)
            free.append(shift)
            reach -= reaches[number]
        in_use = kept_bits
        bits = [0] * len(runs)
        for place, device in enumerate(runs):
            for number in problem.inputs[unit]:
                if number in shifts:
                    bits[place] |= 1 << shifts[number] + device
        fresh += [(number, -1) for number in problem.outputs[unit] if last_reader[number] > unit]
        for number, maker in fresh:
            if free:
                shift = free.pop()
            else:
                shift, used = used, used + width
            shifts[number] = shift
            in_use |= field << shift
            reach += reaches[number]
            for place, device in enumerate(runs):
                bits[place] |= ((device if maker < 0 else maker) << count | 1 << device) << shift
        results = [problem.tensors[t] for t in problem.outputs[unit] if problem.tensors[t].is_result]
        home = tuple(sum(problem.moved(tensor, device, -1) for tensor in results) for device in runs)
        found.append(
            _Turn(tuple(reads), read_bits, kept_bits, tuple(runs), tuple(bits), home, max(reach, 0.0), len(shifts), {})
        )
    return found


def _options(
    turn: _Turn, content: int, row: Sequence[float], launches: Sequence[float], scale: float, count: int
) -> list[tuple[float, int, int]]:
    """For each device that runs the unit: the cost, what it adds to the fields, and the device."""
    moving = turn.moving.get(content)
    if moving is None:
        moving = turn.moving[content] = _moving(turn, content, count)
    return [
        (row[device] + scale * moved + (0.0 if joins else launches[device]), bits, device)
        for device, bits, moved, joins in moving
        if row[device] != NOWHERE
    ]


def _moving(turn: _Turn, content: int, count: int) -> list[tuple[int, int, float, bool]]:
    """For each device that runs the unit: the device, what it adds to the fields, seconds to move what the unit reads
    and makes, and whether it reads something that is there."""
    makers = (1 << (count + 1).bit_length()) - 1
    known = [
        (moves[count], 0) if shift < 0 else (moves[content >> shift + count & makers], content >> shift)
        for shift, moves in turn.reads
    ]
    found = []
    for device, bits, moved in zip(turn.devices, turn.bits, turn.results, strict=True):
        joins = False
        for moves, held in known:
            if held >> device & 1:
                joins = True
            else:
                moved += moves[device]
        found.append((device, bits, moved, joins))
    return found


def _unrolled(before: Sequence[dict[int, tuple[float, int, int]]], last: int) -> Assignment:
    found = []
    for states in reversed(before):
        _, last, device = states[last]
        found.append(device)
    return tuple(reversed(found))
