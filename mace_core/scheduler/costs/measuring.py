"""Calibration: the rates of a device from the times of small graphs on it.

A chain of equal nodes is timed at two lengths.  The difference is the time of the nodes alone; what is left is the cost
of a run: the launch, and the way of the input to the device and of the result back.  The fastest of many runs counts,
since all that disturbs only adds time.  What a border costs is told by graphs that differ in nothing but the tensors
that cross it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias

from mace_core.errors import MaceError
from mace_core.graph import Graph
from mace_core.scheduler.costs.cases import (
    Case,
    activated,
    convolution,
    movement,
    operands,
    product,
    quantized,
    results,
)
from mace_core.scheduler.costs.rates import Curve, Rates, Work, WorkKind
from mace_core.scheduler.placing.problem import Link

_log = logging.getLogger("mace")

SECONDS_A_CASE = 0.02
"""Time spent on runs of each graph, after the first."""

_LEAST_RUNS = 5
_TOO_LONG = 4
"""Times the time for a graph: what takes longer is run twice and no more, and no larger case of its kind is tried."""

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
    meter: Meter | None = None,
    seconds: float = SECONDS_A_CASE,
    brief: bool = False,
    tell: Callable[[str], None] = lambda what: None,
) -> Rates:
    """Time the cases on one device.

    Args:
        open_graph: opens a graph there.
        has_own_memory: whether tensors are copied to it and back.
        meter: tells the power that is drawn while the cases run; None where nothing does.
        seconds: time for each graph.
        brief: one size of each kind of work, and no integers: for a session that cannot wait.
        tell: called with the name of each case before it is measured.

    Raises:
        MaceError: if the device does not run the simplest cases.
    """
    bench = _Bench(open_graph, seconds, tell)
    tiny = bench.line(movement, _TINY, (1, 33))
    stream = bench.line(_streaming, _LARGE, (1, 5))
    byte = max(stream.each - tiny.each, 0.0) / _nbytes(_LARGE)
    to_device = from_device = Link()
    launch = tiny.fixed
    if has_own_memory:
        to_device, from_device = _borders(bench, tiny.fixed / 4 if brief else None)
        launch = max(tiny.fixed - to_device.seconds - from_device.seconds, tiny.fixed / 10)
    if meter is not None:
        meter.start()
    chosen = {kind: cases[1:2] for kind, cases in _CASES.items() if kind is not WorkKind.INTEGER} if brief else _CASES
    curves = {kind: curve for kind, cases in chosen.items() if (curve := _curve(bench, kind, cases, tiny.each))}
    watts = None if meter is None else meter.watts()
    rates = Rates(
        launch,
        tiny.each,
        byte,
        {kind: curve[-1][1] / curve[-1][0] for kind, curve in curves.items() if kind is not WorkKind.OTHER},
        to_device,
        from_device,
        watts,
        curves=curves,
        watts_source="" if watts is None or meter is None else meter.source,
    )
    return replace(rates, fused=_fused(bench, rates))


class Meter(Protocol):
    """Tells the power between `start` and `watts`."""

    source: str

    def start(self) -> None: ...

    def watts(self) -> float | None: ...


_Cases: TypeAlias = "tuple[tuple[Callable[..., Case], tuple[int, ...], tuple[int, int]], ...]"

_CASES: Mapping[WorkKind, _Cases] = {
    WorkKind.CONVOLUTION: (
        (convolution, (16, 28, 3, 1), (1, 9)),
        (convolution, (32, 56, 3, 1), (1, 5)),
        (convolution, (64, 56, 3, 1), (1, 3)),
        (convolution, (256, 56, 3, 1), (1, 2)),
        (convolution, (512, 112, 3, 1), (1, 2)),
    ),
    WorkKind.POINTWISE: (
        (convolution, (64, 14, 1, 1), (1, 9)),
        (convolution, (128, 28, 1, 1), (1, 5)),
        (convolution, (256, 56, 1, 1), (1, 3)),
        (convolution, (512, 112, 1, 1), (1, 2)),
    ),
    WorkKind.DEPTHWISE: (
        (convolution, (256, 14, 3, 256), (1, 9)),
        (convolution, (96, 56, 3, 96), (1, 5)),
        (convolution, (256, 56, 3, 256), (1, 3)),
        (convolution, (512, 112, 3, 512), (1, 2)),
    ),
    WorkKind.MATMUL: (
        (product, (16, 128), (1, 9)),
        (product, (64, 512), (1, 5)),
        (product, (256, 1024), (1, 3)),
        (product, (1024, 2048), (1, 3)),
        (product, (4096, 4096), (1, 2)),
    ),
    WorkKind.INTEGER: ((quantized, (64, 14, 1), (1, 9)), (quantized, (128, 28, 3), (1, 3))),
    WorkKind.OTHER: (
        (movement, (16, 14), (1, 17)),
        (movement, (16, 56), (1, 9)),
        (movement, _LARGE, (1, 5)),
        (movement, (256, 224), (1, 3)),
    ),
}
"""Of each kind chains of rising work; their time follows no straight line, above all on a GPU.  The largest are tried
where those before were done soon enough: a large GPU is not busy with less."""


def _curve(bench: _Bench, kind: WorkKind, cases: _Cases, overhead: float) -> Curve:
    found: list[tuple[int, float]] = []
    for make, sizes, lengths in cases:
        work = make(*sizes, 1).work
        macs = work.macs or work.nbytes
        if found and found[-1][1] / found[-1][0] * macs * sum(lengths) > 2 * _TOO_LONG * bench.seconds:
            break
        try:
            line = bench.line(make, sizes, lengths)
        except MaceError as error:
            _log.info("calibration without %s: %s", kind.value, error)
            break
        took = max(line.each - overhead, macs * 1e-15)
        if found and took < found[-1][1]:
            took = found[-1][1]  # noise: more work does not take less time
        found.append((macs, took))
    return tuple(found)


def _streaming(channels: int, size: int, count: int) -> Case:
    """Reads one constant tensor a node, whatever is fused: the least that bytes cost."""
    return operands(channels, size, count, fed=False)


def _fused(bench: _Bench, rates: Rates) -> float:
    """The share of its own time that an activation takes behind a convolution."""
    sizes, lengths = (16, 56), (1, 9)
    alone = rates.seconds(Work(WorkKind.OTHER, 0, 2 * _nbytes(sizes)))
    try:
        plain = bench.line(convolution, (*sizes, 1, 1), lengths).each
        activation = bench.line(activated, sizes, lengths).each - plain
    except MaceError as error:
        _log.info("calibration without activations: %s", error)
        return 1.0
    return min(max(activation / alone, 0.0), 1.0) if alone else 1.0


def _borders(bench: _Bench, fixed: float | None) -> tuple[Link, Link]:
    """The ways to the device and back, each by graphs that differ by a few tensors on that way alone.

    ``fixed``: the time of the smallest tensor, where that is not to be measured.
    """
    more = 4
    links = []
    for make, extra in ((operands, "fed"), (results, "all_of_them")):
        times = []
        for sizes in (_TINY, _LARGE):
            if sizes is _TINY and fixed is not None:
                times.append(fixed)
                continue
            fewer, all_ = (bench.fastest(make(*sizes, more + 1, **{extra: there})) for there in (False, True))
            tensors = more + 1 if make is operands else more
            times.append(max(all_ - fewer, 0.0) / tensors)
        each = max(times[1] - times[0], 0.0) / (_nbytes(_LARGE) - _nbytes(_TINY))
        links.append(Link(max(times[0] - _nbytes(_TINY) * each, 0.0), each))
    return links[0], links[1]


def _nbytes(sizes: tuple[int, int]) -> int:
    """Of a float32 tensor of so many channels and elements along each side."""
    return 4 * sizes[0] * sizes[1] ** 2


class _Bench(NamedTuple):
    """Times cases on one device, and says which."""

    open_graph: Open
    seconds: float
    tell: Callable[[str], None]

    def line(self, make: Callable[..., Case], sizes: tuple[int, ...], lengths: tuple[int, int]) -> _Line:
        """The times at two lengths as a line."""
        short, long = (self.fastest(make(*sizes, repeats)) for repeats in lengths)
        each = max(long - short, 0.0) / (lengths[1] - lengths[0])
        return _Line(max(short - lengths[0] * each, 0.0), each)

    def fastest(self, case: Case) -> float:
        """The time of the fastest of the runs that fit into the time."""
        self.tell(case.name)
        with self.open_graph(case.graph) as session:
            session.run(case.feeds)
            best, runs, until = math.inf, 0, time.perf_counter() + self.seconds
            late = until + (_TOO_LONG - 1) * self.seconds
            while runs < 2 or (now := time.perf_counter()) < until or (runs < _LEAST_RUNS and now < late):
                start = time.perf_counter()
                session.run(case.feeds)
                best = min(best, time.perf_counter() - start)
                runs += 1
        return best
