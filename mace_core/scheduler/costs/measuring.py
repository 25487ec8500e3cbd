"""Calibration: the rates of a device from the times of small graphs on it.

A chain of equal nodes is timed at two lengths.  The difference is the time of the nodes alone; what is left is the cost
of a run: the launch, and the way of the input to the device and of the result back.  The fastest of many runs counts,
since all that disturbs only adds time.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from mace_core.errors import MaceError
from mace_core.graph import Graph
from mace_core.scheduler.costs.cases import Case, convolution, movement, product
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.placing.problem import Link

_log = logging.getLogger("mace")

SECONDS_A_CASE = 0.05
"""Time spent on runs of each graph, after the first."""

_LEAST_RUNS = 5
_TINY, _LARGE = (4, 4), (64, 112)  # channels, and elements along each side


class RunsModel(Protocol):
    """The part of a session that is needed."""

    def run(self, feeds: Mapping[str, Any]) -> Mapping[str, Any]: ...


Open = Callable[[Graph], AbstractContextManager[RunsModel]]
"""Opens a graph on the device that is measured, and on no other."""


class _Line(NamedTuple):
    """Seconds of a run: ``fixed`` and so much for each node."""

    fixed: float
    each: float


def measure_rates(
    open_graph: Open,
    *,
    has_own_memory: bool,
    watts: float | None = None,
    seconds: float = SECONDS_A_CASE,
    tell: Callable[[str], None] = lambda what: None,
) -> Rates:
    """Time the cases on one device.

    Args:
        open_graph: opens a graph there.
        has_own_memory: whether tensors are copied to it and back.
        watts: its power while it works, where that is known.
        seconds: time for each graph.
        tell: called with the name of each case before it is measured.

    Raises:
        MaceError: if the device does not run the simplest cases.
    """
    tiny = _line(open_graph, movement, _TINY, (1, 33), seconds, tell)
    large = _line(open_graph, movement, _LARGE, (1, 5), seconds, tell)
    nbytes = 4 * _LARGE[0] * _LARGE[1] ** 2
    byte = max(large.each - tiny.each, 0.0) / (2 * nbytes)
    crossing = max(large.fixed - tiny.fixed, 0.0) / (2 * nbytes) if has_own_memory else 0.0
    border = Link(tiny.fixed / 4, crossing) if has_own_memory else Link()
    launch = tiny.fixed / 2 if has_own_memory else tiny.fixed
    mac: dict[WorkKind, float] = {}
    for kind, cases in _ARITHMETIC.items():
        found = []
        for make, sizes, lengths in cases:
            work = make(*sizes, 1).work
            try:
                line = _line(open_graph, make, sizes, lengths, seconds, tell)
            except MaceError as error:
                _log.info("calibration without %s: %s", kind.value, error)
                continue
            found.append(max(line.each - tiny.each, 1e-9) / work.macs)
        if found:
            mac[kind] = math.exp(sum(map(math.log, found)) / len(found))
    return Rates(launch, tiny.each, byte, mac, border, border, watts)


_ARITHMETIC: Mapping[WorkKind, tuple[tuple[Callable[..., Case], tuple[int, ...], tuple[int, int]], ...]] = {
    WorkKind.CONVOLUTION: ((convolution, (64, 56, 3, 1), (1, 3)), (convolution, (256, 14, 1, 1), (1, 5))),
    WorkKind.DEPTHWISE: ((convolution, (128, 28, 3, 128), (1, 9)),),
    WorkKind.MATMUL: ((product, (128, 1024), (1, 3)),),
}


def _line(
    open_graph: Open,
    make: Callable[..., Case],
    sizes: tuple[int, ...],
    lengths: tuple[int, int],
    seconds: float,
    tell: Callable[[str], None],
) -> _Line:
    """The times at two lengths as a line."""
    tell(make(*sizes, 1).name)
    short, long = (_fastest(open_graph, make(*sizes, repeats), seconds) for repeats in lengths)
    each = max(long - short, 0.0) / (lengths[1] - lengths[0])
    return _Line(max(short - lengths[0] * each, 0.0), each)


def _fastest(open_graph: Open, case: Case, seconds: float) -> float:
    """The time of the fastest of the runs that fit into ``seconds``."""
    with open_graph(case.graph) as session:
        session.run(case.feeds)
        best, runs, until = math.inf, 0, time.perf_counter() + seconds
        while runs < _LEAST_RUNS or time.perf_counter() < until:
            start = time.perf_counter()
            session.run(case.feeds)
            best = min(best, time.perf_counter() - start)
            runs += 1
    return best
