"""Placements to measure against: one device, the first that can, MACE's greedy rule, and HEFT."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.scheduler.placing.problem import Assignment, Problem


def first_takes_all(problem: Problem, order: Sequence[int] | None = None) -> Assignment:
    """Each unit on the first device, in ``order``, that can run it."""
    order = range(len(problem.devices)) if order is None else order
    return tuple(next(d for d in order if d in runs) for runs in map(problem.can_run, range(problem.units)))


def greedy_neighbours(problem: Problem, target: int, host: int) -> Assignment:
    """MACE's rule for one target device: a unit runs on the target if that can run it and something that it reads was
    made there or is fed; else on the host device (on whatever can, if that cannot).

    Source: the behaviour of ``NetDefAdapter`` in Xiaomi's MACE, in words: an operator follows its inputs' memory.
    """
    found: list[int] = []
    for unit in range(problem.units):
        runs = problem.can_run(unit)
        reads = [problem.tensors[t].producer for t in problem.inputs[unit]]
        follows = not reads or any(producer < 0 or found[producer] == target for producer in reads)
        wanted = target if target in runs and follows else host
        found.append(wanted if wanted in runs else runs[0])
    return tuple(found)


def heft(problem: Problem) -> Assignment:
    """Heterogeneous Earliest Finish Time: units by their way to the end, longest first, each on the device that ends
    it first.

    Source: H. Topcuoglu, S. Hariri, M.-Y. Wu, "Performance-effective and low-complexity task scheduling for
    heterogeneous computing", IEEE Transactions on Parallel and Distributed Systems 13(3), 2002.
    """
    count = len(problem.devices)
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    rank = [0.0] * problem.units
    for unit in reversed(range(problem.units)):
        runs = problem.can_run(unit)
        longest = 0.0
        for number in problem.outputs[unit]:
            tensor = problem.tensors[number]
            moving = sum(problem.moved(tensor, a, b) for a, b in pairs) / len(pairs) if pairs else 0.0
            longest = max(longest, *(moving + rank[reader] for reader in tensor.readers), 0.0)
        rank[unit] = sum(problem.seconds[unit][d] for d in runs) / len(runs) + longest
    free = [0.0] * count
    ends = [0.0] * problem.units
    found = [0] * problem.units
    for unit in sorted(range(problem.units), key=lambda unit: (-rank[unit], unit)):
        best: tuple[float, int] | None = None
        for device in problem.can_run(unit):
            ready = free[device]
            for number in problem.inputs[unit]:
                tensor = problem.tensors[number]
                source = found[tensor.producer] if tensor.producer >= 0 else -1
                made = ends[tensor.producer] if tensor.producer >= 0 else 0.0
                ready = max(ready, made + problem.moved(tensor, source, device))
            end = ready + problem.seconds[unit][device]
            if best is None or end < best[0]:
                best = end, device
        assert best is not None, "a unit runs somewhere"
        ends[unit], found[unit] = best
        free[found[unit]] = best[0]
    return tuple(found)


def exhaustive(problem: Problem, limit: int = 200_000) -> list[Assignment]:
    """All assignments there are, to know how far from the best another way stays.

    Raises:
        ValueError: if they are more than ``limit``.
    """
    found: list[tuple[int, ...]] = [()]
    for unit in range(problem.units):
        runs = problem.can_run(unit)
        if len(found) * len(runs) > limit:
            raise ValueError(f"{problem.units} units on {len(problem.devices)} devices have too many assignments")
        found = [(*before, device) for before in found for device in runs]
    return found
