"""How many threads a model runs best with on this machine, for one run at a time and for as many as fit side by side.

The candidates take turns in every round, in another order each time, so that a machine that grows warmer or busier
spoils the figures of all alike.  They are then compared round by round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_core.host.power import PackageMeter
from mace_core.measurement.statistics import Estimate, estimate, is_more, percentile, ratios
from mace_core.measurement.throughput import measure_throughput
from mace_core.progress import report

if TYPE_CHECKING:
    from mace_core.session import Session

MATTERS = 1.02
"""Differences of less than two per cent are told as none, however sure they are."""

_LEAST_SECONDS = 0.05
"""That a candidate runs in a round, at least; one run where that takes longer."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run: how many threads, on which processors ("none": any; "big", "little")."""

    threads: int
    affinity: str = "none"

    def __str__(self) -> str:
        return f"{self.threads}" if self.affinity == "none" else f"{self.threads} on {self.affinity} processors"


@dataclass(slots=True)
class Measured:
    """What was found out about a candidate, a figure for each round.

    Attributes:
        candidate: which.
        streams: runs side by side for the throughput: as many as leave each thread a processor.
        latencies: seconds of a run that is alone.
        rates: runs a second of all streams.
        processor_seconds: of the process for each run that was alone.
        joules: of the processors for each run that was alone; empty where their counters cannot be read.
    """

    candidate: Candidate
    streams: int
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)

    def as_data(self) -> dict[str, Any]:
        """The estimates of all figures, ready for JSON."""
        return {
            "threads": self.candidate.threads,
            "affinity": self.candidate.affinity,
            "streams": self.streams,
            "latency_seconds": estimate(self.latencies).as_data(),
            "runs_per_second": estimate(self.rates).as_data(),
            "processor_seconds_per_run": estimate(self.processor_seconds).as_data(),
            "joules_per_run": estimate(self.joules).as_data() if self.joules else None,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What to use for one purpose.

    Attributes:
        best: the candidate with the best figure.
        chosen: what to use: the fewest threads whose figure cannot be told from the best.
        gain: how many times better it is than the fewest threads of all.
        worst: the candidate with the worst figure.
        lead: how many times better the chosen one is than that.
        ties: candidates that cannot be told from the best.
    """

    best: Candidate
    chosen: Candidate
    gain: Estimate
    worst: Candidate
    lead: Estimate
    ties: tuple[Candidate, ...]

    @property
    def matters(self) -> bool:
        """Whether more threads than the fewest are worth it."""
        return _is_better(self.gain)

    @property
    def hurts(self) -> bool:
        """Whether some candidate is worse than the chosen one."""
        return _is_better(self.lead)

    def as_data(self) -> dict[str, Any]:
        """Everything, ready for JSON."""

        def told(each: Candidate) -> dict[str, Any]:
            return {"threads": each.threads, "affinity": each.affinity}

        return {
            "best": told(self.best),
            "chosen": told(self.chosen),
            "gain_over_fewest": self.gain.as_data(),
            "worst": told(self.worst),
            "lead_over_worst": self.lead.as_data(),
            "matters": self.matters,
            "not_told_apart": [told(each) for each in self.ties],
        }


@dataclass(frozen=True, slots=True)
class ThreadAdvice:
    """The whole comparison.

    Attributes:
        measured: the candidates, in the order given.
        rounds: how many.
        latency, throughput: what to use for each.
        disturbance: how much the same candidate differed from round to round: half the range that nine of ten rounds
            lay in, as a part of the median; the mean of all candidates.
    """

    measured: tuple[Measured, ...]
    rounds: int
    latency: Advice
    throughput: Advice
    disturbance: float

    def as_data(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "rounds": self.rounds,
            "disturbance": self.disturbance,
            "candidates": [each.as_data() for each in self.measured],
            "latency": self.latency.as_data(),
            "throughput": self.throughput.as_data(),
        }


def candidates_for(most: int, big: int = 0) -> list[Candidate]:
    """1, 2, 3, 4, 6, 8, 12, … up to ``most`` threads, and on the big processors alone up to their number.

    Args:
        most: threads that the process may use.
        big: how many big processors there are where there are little ones too; 0 where all are alike.
    """
    counts: list[int] = []
    number = 1
    while number < most:
        counts.append(number)
        number = number + 1 if number < 4 else number + number // 2 if number & (number - 1) == 0 else number * 4 // 3
    counts.append(most)
    found = [Candidate(count) for count in counts]
    return (
        found
        + [Candidate(count, "big") for count in counts if count <= big]
        + ([Candidate(big, "big")] if big and big not in counts else [])
    )


def compare_threads(
    open_session: Callable[[Candidate], Session],
    feeds_of: Callable[[Session], Mapping[str, Any]],
    candidates: Sequence[Candidate],
    *,
    rounds: int = 12,
    most: int = 1,
    seed: int = 0,
) -> ThreadAdvice:
    """Measure the candidates and say which to use.

    Args:
        open_session: gives a session that runs as a candidate says.
        feeds_of: an array for every input.
        candidates: at least one, no two alike.
        rounds: turns of each.
        most: threads that the process may use: what streams side by side share.
        seed: of the orders in which candidates take their turns.

    Raises:
        MaceError: what opening and running raises.
    """
    opened: list[tuple[Session, Measured]] = []
    try:
        feeds: Mapping[str, Any] = {}
        for each in candidates:
            session = open_session(each)
            opened.append((session, Measured(each, max(1, most // each.threads))))
            feeds = feeds or feeds_of(session)
            session.prepare({name: value.shape for name, value in feeds.items()})
        for session, _ in opened:
            session.run(feeds)  # the first run of a plan takes longer
        turns = random.Random(seed)
        meter = PackageMeter()
        for number in range(rounds):
            order = list(opened)
            turns.shuffle(order)
            for session, measured in order:
                _alone(session, feeds, measured, meter)
                _together(session, feeds, measured)
            report("rounds", number + 1, rounds)
    finally:
        for session, _ in opened:
            session.close()
    return advise([measured for _, measured in opened])


def advise(measured: Sequence[Measured]) -> ThreadAdvice:
    """The conclusions from what was measured."""
    latency = _advice(measured, lambda each: [1 / seconds for seconds in each.latencies])
    throughput = _advice(measured, lambda each: each.rates)
    spreads = []
    for each in measured:
        ordered = sorted(each.latencies)
        half = (percentile(ordered, 0.95) - percentile(ordered, 0.05)) / 2
        spreads.append(half / percentile(ordered, 0.5))
    rounds = len(measured[0].latencies)
    return ThreadAdvice(tuple(measured), rounds, latency, throughput, sum(spreads) / len(spreads))


def _advice(measured: Sequence[Measured], speeds_of: Callable[[Measured], Sequence[float]]) -> Advice:
    """More is better.  The fewest threads win among those that cannot be told from the best, since they cost least."""
    speeds = {each.candidate: list(speeds_of(each)) for each in measured}
    best = max(measured, key=lambda each: estimate(speeds[each.candidate]).median).candidate
    ties = [
        each.candidate
        for each in measured
        if each.candidate == best or not _is_better(ratios(speeds[best], speeds[each.candidate]))
    ]
    chosen = min(ties, key=lambda each: (each.threads, each.affinity != "none"))
    fewest = min((each.candidate for each in measured), key=lambda each: (each.threads, each.affinity != "none"))
    worst = min(measured, key=lambda each: estimate(speeds[each.candidate]).median).candidate
    gain, lead = (ratios(speeds[chosen], speeds[other]) for other in (fewest, worst))
    return Advice(best, chosen, gain, worst, lead, tuple(ties))


def _is_better(ratio: Estimate) -> bool:
    return is_more(ratio) and ratio.median >= MATTERS


def _alone(session: Session, feeds: Mapping[str, Any], measured: Measured, meter: PackageMeter) -> None:
    """One run after the other; the median of the round, and what a run cost."""
    seconds: list[float] = []
    before, processor = meter.read(), time.process_time()
    started = time.perf_counter()
    while not seconds or time.perf_counter() - started < _LEAST_SECONDS:
        begin = time.perf_counter()
        session.run(feeds)
        seconds.append(time.perf_counter() - begin)
    passed = time.perf_counter() - started
    used, after = time.process_time() - processor, meter.read()
    measured.latencies.append(percentile(sorted(seconds), 0.5))
    measured.processor_seconds.append(used / len(seconds))
    watts = None if before is None or after is None else meter.watts(before, after)
    if watts is not None:
        measured.joules.append(watts * passed / len(seconds))


def _together(session: Session, feeds: Mapping[str, Any], measured: Measured) -> None:
    """As many runs side by side as leave each thread a processor."""
    seconds = max(_LEAST_SECONDS, 2 * measured.latencies[-1])
    found = measure_throughput(
        [(str(measured.candidate), session)], feeds, streams=measured.streams, seconds=seconds, warmup=0
    )
    measured.rates.append(found.frames_per_second)
