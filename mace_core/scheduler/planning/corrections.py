"""Measured times in place of what rates predict: of partitions for their units, and of whole runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mace_core.scheduler.placing.predict import predict
from mace_core.scheduler.placing.problem import NOWHERE, Problem

_SWEEPS = 4

_Known = tuple[frozenset[int], float]


def correct(
    rows: Sequence[list[float]],
    device: int,
    launch: float,
    units: Sequence[Sequence[str]],
    times: Mapping[tuple[str, ...], float],
) -> None:
    """Put measured seconds into the column of a device.

    What a partition took beside its launch is shared among its units as their predictions were.  Where partitions
    overlap, their units are scaled in turn, the largest partition last (iterative proportional fitting: W. E. Deming,
    F. F. Stephan, Annals of Mathematical Statistics 11(4), 1940).  A partition that took longer than another one that
    contains it was disturbed, and one that holds a part of a unit says nothing of it: both are left out.

    Args:
        rows: for each unit its seconds on each device; changed.
        device: the number of the column.
        launch: seconds that one more partition costs there.
        units: names of the nodes of each unit.
        times: seconds of partitions, by the names of their nodes.
    """
    unit_of = {name: number for number, names in enumerate(units) for name in names}
    known: list[_Known] = []
    for names, seconds in times.items():
        found = frozenset(unit_of.get(name, -1) for name in names)
        is_whole = -1 not in found and sum(len(units[unit]) for unit in found) == len(names)
        if is_whole and all(rows[unit][device] != NOWHERE for unit in found):
            known.append((found, max(seconds - launch, 0.0)))
    known = sorted((each for each in known if not _is_disturbed(each, known)), key=lambda each: len(each[0]))
    for _ in range(_SWEEPS if len(known) > 1 else 1):
        for found, seconds in known:
            whole = sum(rows[unit][device] for unit in found)
            for unit in found:
                rows[unit][device] = seconds * (rows[unit][device] / whole if whole else 1 / len(found))


def _is_disturbed(each: _Known, known: Sequence[_Known]) -> bool:
    return any(seconds < each[1] and found > each[0] for found, seconds in known)


def with_runs(
    problem: Problem, units: Sequence[Sequence[str]], runs: Iterable[tuple[Mapping[str, str], float]]
) -> Problem:
    """The problem with what is known of whole runs.

    A placement that was run costs what it took.  Others on the same devices cost more than predicted by the factor by
    which those that were run did, the least of them: devices at work at the same time may be in each other's way.

    Args:
        units: names of the nodes of each unit.
        runs: for each run the device of each node, and its seconds.
    """
    numbers = {name: number for number, name in enumerate(problem.devices)}
    measured: dict[tuple[int, ...], float] = {}
    together: dict[frozenset[int], float] = {}
    for where, seconds in runs:
        places = [{where.get(name, "") for name in names} for names in units]
        if any(len(place) > 1 or not place <= numbers.keys() for place in places):
            continue
        assignment = tuple(numbers[name] for place in places for name in place)
        if len(assignment) != problem.units or any(
            problem.seconds[unit][device] == NOWHERE for unit, device in enumerate(assignment)
        ):
            continue
        measured[assignment] = min(seconds, measured.get(assignment, seconds))
        predicted = predict(problem, assignment).overlapped
        used = frozenset(assignment)
        if len(used) > 1 and predicted > 0:
            factor = max(seconds / predicted, 1.0)
            together[used] = min(factor, together.get(used, factor))
    return replace(problem, measured=measured, together=together) if measured else problem
