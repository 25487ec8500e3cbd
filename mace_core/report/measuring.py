"""Measuring what a page shows: warm runs, profiled runs, the placement, memory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.progress import report
from mace_core.report.liveness import Liveness, liveness
from mace_core.report.model_facts import ModelFacts, model_facts
from mace_core.report.rss import MemorySamples
from mace_core.report.step_times import StepTime, step_times
from mace_core.report.wiring import Wiring, wire

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.scheduler.explain import Explanation
    from mace_core.scheduler.profile import Profile
    from mace_core.session import Session


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What was found out about a model in a session.

    Attributes:
        label: what the model is called.
        latencies: seconds of each warm run without profiling, in the order they were run.
        profiles: of the runs after them.
        explanation: where the nodes run, and why.
        facts: what the file says of nodes and values.
        peaks: multiply-accumulates a second that each device could do.
        wiring: the graph of the nodes that ran.
        memory: bytes of results alive during the median of the profiled runs.
        samples: resident memory of the process: nanoseconds of ``time.perf_counter_ns``, bytes.
        marks: when what began, on the same clock.
    """

    label: str
    latencies: tuple[float, ...]
    profiles: tuple[Profile, ...]
    explanation: Explanation
    facts: ModelFacts
    peaks: Mapping[str, float]
    wiring: Wiring
    memory: Liveness
    samples: tuple[tuple[int, int], ...]
    marks: tuple[tuple[int, str], ...]

    @property
    def steps(self) -> list[StepTime]:
        """The steps in the order they ran, each with its mean time."""
        return step_times(self.profiles, self.facts, self.peaks)


def measure(
    session: Session,
    model: Model,
    feeds: Mapping[str, Any],
    *,
    runs: int = 5,
    warmup: int = 3,
    label: str = "",
    samples: MemorySamples | None = None,
) -> ModelProfile:
    """Run a model some times as it is, and as many times profiled.

    Args:
        session: open, with ``model`` in it.
        model: as given to the session; read again for the facts about its nodes.
        feeds: an array for every input.
        runs: warm runs to time, and profiled runs after them.
        warmup: runs before them that do not count; the first of all is always one of these.
        label: what to call the model; by default its path.
        samples: already at work, for memory from before the session was opened; by default of the runs alone.

    Raises:
        UsageError: if ``runs`` is not positive.
        MaceError: as `Session.run`.
    """
    if runs < 1 or warmup < 0:
        raise UsageError(f"a profile needs at least one run, and {runs} runs after {warmup} were asked for")
    if samples is None:
        with MemorySamples() as own:
            return measure(session, model, feeds, runs=runs, warmup=warmup, label=label, samples=own)
    samples.mark("first run")
    session.run(feeds)
    samples.mark("warm runs")
    for _ in range(warmup - 1):
        session.run(feeds)
    latencies = []
    for number in range(runs):
        start = time.perf_counter()
        session.run(feeds)
        latencies.append(time.perf_counter() - start)
        report("warm runs", number + 1, runs)
    samples.mark("profiled runs")
    profiles = []
    for number in range(runs):
        profiles.append(session.profile(feeds))
        profiles[-1].outputs = {}  # results of all runs at once would be most of the memory shown
        report("profiled runs", number + 1, runs)
    samples.mark("end")
    taken = tuple(samples.samples), tuple(samples.marks)
    explanation = session.explain()
    facts = model_facts(model, feeds)
    wiring = wire(explanation.nodes)
    outputs = [each.name for each in session.outputs]
    memory = liveness(median_of(profiles), wiring, facts.nbytes, list(feeds), outputs)
    return ModelProfile(
        label=label or _label(model),
        latencies=tuple(latencies),
        profiles=tuple(profiles),
        explanation=explanation,
        facts=facts,
        peaks=session.measure_peaks(),
        wiring=wiring,
        memory=memory,
        samples=taken[0],
        marks=taken[1],
    )


def by_length(profiles: Sequence[Profile]) -> list[Profile]:
    """The shortest first."""
    return sorted(profiles, key=lambda profile: profile.work_end_ns - profile.start_ns)


def median_of(profiles: Sequence[Profile]) -> Profile:
    """The run of median length."""
    return by_length(profiles)[(len(profiles) - 1) // 2]


def _label(model: Model) -> str:
    return str(model) if isinstance(model, str | PathLike) else "a model"
