"""A placement's partitions as the units of a smaller problem, so that whole partitions can be moved quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mace_core.scheduler.placing.predict import Prediction
from mace_core.scheduler.placing.problem import Assignment, Problem, Tensor


class Coarse(NamedTuple):
    """A problem whose units are groups of another one's units."""

    problem: Problem
    groups: tuple[tuple[int, ...], ...]

    def expanded(self, assignment: Sequence[int]) -> Assignment:
        """The assignment of the other problem's units."""
        device_of = {unit: assignment[number] for number, group in enumerate(self.groups) for unit in group}
        return tuple(device_of[unit] for unit in range(len(device_of)))


def coarsened(problem: Problem, prediction: Prediction) -> Coarse:
    """The pieces of ``prediction``, in their order, as units."""
    groups = tuple(piece.units for piece in prediction.pieces)
    home = {unit: number for number, group in enumerate(groups) for unit in group}
    count = len(problem.devices)

    def summed(table: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(sum(table[unit][device] for unit in group) for device in range(count)) for group in groups)

    tensors = []
    for tensor in problem.tensors:
        producer = home[tensor.producer] if tensor.producer >= 0 else -1
        readers = tuple(sorted({home[reader] for reader in tensor.readers} - {producer}))
        if readers or tensor.is_result:
            tensors.append(Tensor(producer, readers, tensor.nbytes, tensor.is_result))
    return Coarse(
        Problem(
            problem.devices,
            summed(problem.seconds),
            tuple(tensors),
            problem.links,
            problem.host,
            problem.launch,
            joules=None if problem.joules is None else summed(problem.joules),
            alone=problem.alone,
            together=problem.together,
        ),
        groups,
    )
