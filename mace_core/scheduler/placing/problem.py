"""The placement problem in numbers: units of work, what each costs on each device, and what a border costs.

Nothing here knows graphs, providers or hardware; `mace_core.scheduler.planning` states the problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from mace_core.scheduler.placing.overlapping import Ways, ways_of

NOWHERE = math.inf
"""The cost of a unit on a device that cannot run it."""

Assignment: TypeAlias = "tuple[int, ...]"
"""The device of each unit, by its number."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What goes from unit to unit.

    Attributes:
        producer: the unit that makes it; -1 for what is fed, which lies on the host.
        readers: the units that read it.
        nbytes: its size.
        is_result: it has to be on the host in the end.
    """

    producer: int
    readers: tuple[int, ...]
    nbytes: int
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """What it takes to bring a tensor from one memory to another: ``seconds + nbytes * seconds_per_byte``."""

    seconds: float = 0.0
    seconds_per_byte: float = 0.0
    joules_per_byte: float = 0.0

    def time(self, nbytes: int) -> float:
        """Seconds for one tensor."""
        return self.seconds + nbytes * self.seconds_per_byte


@dataclass(frozen=True)
class Problem:
    """Units in a topological order, and devices in order of preference.

    Attributes:
        devices: their names; the order breaks ties.
        seconds: for each unit its time on each device, `NOWHERE` where it cannot run.
        tensors: what they hand over.
        links: ``links[a][b]`` brings a tensor from device a to device b; ``links[a][a]`` is not used.
        host: for each device its link from the host, and to it.
        launch: for each device what one more partition costs, in seconds.
        joules: as ``seconds``, energy; None where no device states it.
        names: of the units, for people.
        alone: a device that runs one unit at a time (control flow in the core); "" for none.
        measured: seconds of whole runs, by where their units were; they go over what is predicted.
        together: how many times longer than predicted runs on just these devices took.
    """

    devices: tuple[str, ...]
    seconds: tuple[tuple[float, ...], ...]
    tensors: tuple[Tensor, ...]
    links: tuple[tuple[Link, ...], ...]
    host: tuple[tuple[Link, Link], ...]
    launch: tuple[float, ...]
    joules: tuple[tuple[float, ...], ...] | None = None
    names: tuple[str, ...] = field(default=(), compare=False)
    alone: str = ""
    measured: Mapping[Assignment, float] = field(default_factory=dict, compare=False)
    together: Mapping[frozenset[int], float] = field(default_factory=dict, compare=False)

    @property
    def units(self) -> int:
        """The number of units."""
        return len(self.seconds)

    @cached_property
    def inputs(self) -> tuple[tuple[int, ...], ...]:
        """For each unit the tensors that it reads."""
        found: list[list[int]] = [[] for _ in range(self.units)]
        for number, tensor in enumerate(self.tensors):
            for reader in dict.fromkeys(tensor.readers):
                found[reader].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """For each unit the tensors that it makes."""
        found: list[list[int]] = [[] for _ in range(self.units)]
        for number, tensor in enumerate(self.tensors):
            if tensor.producer >= 0:
                found[tensor.producer].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def producers(self) -> tuple[int, ...]:
        """The unit that makes each tensor; -1 for what is fed."""
        return tuple(tensor.producer for tensor in self.tensors)

    @cached_property
    def predecessors(self) -> tuple[frozenset[int], ...]:
        """For each unit those whose results it reads."""
        return tuple(
            frozenset(self.tensors[t].producer for t in tensors if self.tensors[t].producer >= 0)
            for tensors in self.inputs
        )

    @cached_property
    def ways(self) -> Ways:
        """For each unit all that it needs, and all that needs it."""
        return ways_of(self.predecessors)

    def can_run(self, unit: int) -> list[int]:
        """The devices that can run a unit, in order."""
        return [device for device, seconds in enumerate(self.seconds[unit]) if seconds != NOWHERE]

    def moved(self, tensor: Tensor, source: int, target: int) -> float:
        """Seconds to bring ``tensor`` from where it is made to a device; numbers below zero stand for the host."""
        if source == target:
            return 0.0
        if source < 0:
            return self.host[target][0].time(tensor.nbytes)
        if target < 0:
            return self.host[source][1].time(tensor.nbytes)
        return self.links[source][target].time(tensor.nbytes)


def check(problem: Problem) -> None:
    """Look through a problem.

    Raises:
        ValueError: if it is not one: a unit that nothing runs, a table of another size, an order that is not one.
    """
    count = len(problem.devices)
    for unit, row in enumerate(problem.seconds):
        if len(row) != count:
            raise ValueError(f"unit {unit} has {len(row)} costs for {count} devices")
        if not problem.can_run(unit):
            raise ValueError(f"unit {unit} runs on no device")
        if any(cost < 0 or math.isnan(cost) for cost in row):
            raise ValueError(f"unit {unit} has a cost that is no time")
    if not len(problem.links) == len(problem.host) == len(problem.launch) == count:
        raise ValueError(f"there are not {count} links, launches and hosts")
    for tensor in problem.tensors:
        if any(reader <= tensor.producer for reader in tensor.readers):
            raise ValueError(f"a result of unit {tensor.producer} is read by {min(tensor.readers)}: not in order")
