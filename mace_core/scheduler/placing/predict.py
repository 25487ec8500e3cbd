"""What an assignment will cost: time of a run, time of each device, energy, and the partitions that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.scheduler.placing.overlapping import cut_for_overlap
from mace_core.scheduler.placing.pieces import gather_pieces
from mace_core.scheduler.placing.problem import Assignment, Problem

_MERGE_LIMIT = 32
"""Beyond this many pieces no further merges are looked for: nobody wants such a placement, and its cost is told well
enough."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One partition: its device, its units, what they cost, and what bringing its inputs costs."""

    device: int
    units: tuple[int, ...]
    seconds: float
    moving: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The cost of an assignment.

    Attributes:
        assignment: the device of each unit.
        pieces: the partitions, in an order in which they can run.
        sequential: seconds of a run in which one thing happens after the other.
        overlapped: seconds of a run in which each device works as soon as its inputs are there.
        busy: for each device the seconds in which it works on one run.
        joules: energy of a run; 0 where no device states it.
    """

    assignment: Assignment
    pieces: tuple[Piece, ...]
    sequential: float
    overlapped: float
    busy: tuple[float, ...]
    joules: float

    @property
    def bottleneck(self) -> float:
        """Seconds from result to result where requests follow each other without a gap."""
        return max(self.busy, default=0.0)


def predict(problem: Problem, assignment: Sequence[int]) -> Prediction:
    """The cost of running each unit where ``assignment`` says.

    A tensor is moved once to each memory that reads it.  What is known of whole runs goes over the sums.

    The overlapped time is that of a list schedule: pieces start
    in their order, each when its device is free and its inputs have arrived.
    """
    assignment = tuple(assignment)
    devices = [problem.devices[device] for device in assignment]
    cells = range(problem.units)
    found = gather_pieces(devices, problem.predecessors, cells, alone=problem.alone, merge_limit=_MERGE_LIMIT)
    if len(set(assignment)) > 1:
        costs = [row[device] for row, device in zip(problem.seconds, assignment, strict=True)]
        found = cut_for_overlap(found, problem.predecessors, cells, costs, problem.ways)
    free = [0.0] * len(problem.devices)
    busy = [0.0] * len(problem.devices)
    made: dict[int, float] = {}  # tensor -> when it is there, where it is made
    arrived: dict[tuple[int, int], float] = {}  # tensor and device -> when it is there
    pieces: list[Piece] = []
    sequential = joules = 0.0
    seconds, inputs, producers = problem.seconds, problem.inputs, problem.producers
    for _, units in found:
        device = assignment[units[0]]
        work = problem.launch[device] + sum([seconds[unit][device] for unit in units])
        ready, moving = free[device], 0.0
        for number in dict.fromkeys([t for unit in units for t in inputs[unit]]):
            producer = producers[number]
            source = assignment[producer] if producer >= 0 else -1
            if source == device:
                continue
            if (number, device) not in arrived:
                tensor = problem.tensors[number]
                took = problem.moved(tensor, source, device)
                moving += took
                arrived[number, device] = made.get(number, 0.0) + took
                joules += _energy(problem, source, device, tensor.nbytes)
            ready = max(ready, arrived[number, device])
        end = ready + work
        free[device] = end
        busy[device] += work + moving
        sequential += work + moving
        if problem.joules is not None:
            joules += sum(problem.joules[unit][device] for unit in units)
        for unit in units:
            for number in problem.outputs[unit]:
                made[number] = end
        pieces.append(Piece(device, tuple(units), work, moving))
    finish = max(free, default=0.0)
    for number, tensor in enumerate(problem.tensors):
        if tensor.is_result and tensor.producer >= 0:
            source = assignment[tensor.producer]
            took = problem.moved(tensor, source, -1)
            sequential += took
            busy[source] += took
            joules += _energy(problem, source, -1, tensor.nbytes)
            finish = max(finish, made[number] + took)
    if problem.together:
        finish *= problem.together.get(frozenset(assignment), 1.0)
    took_all = problem.measured.get(assignment)
    if took_all is not None:
        finish = took_all
        sequential = took_all if len(set(assignment)) == 1 else max(sequential, took_all)
    return Prediction(assignment, tuple(pieces), sequential, finish, tuple(busy), joules)


def _energy(problem: Problem, source: int, target: int, nbytes: int) -> float:
    if source < 0:
        link = problem.host[target][0]
    elif target < 0:
        link = problem.host[source][1]
    else:
        link = problem.links[source][target]
    return link.joules_per_byte * nbytes
