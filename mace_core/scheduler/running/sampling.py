"""Times the first runs of a plan that was placed by cost, so that later placements go by what its partitions took.

The first run is not counted: much is done once.  Of the others, every second one is timed as a whole, and every second
one partition by partition, where the device is waited for after each of them.  Then the instance becomes an ordinary
one: later runs cost what they would cost anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from mace_core.graph import Value
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning.plan import RunStep, StagePlan
from mace_core.scheduler.running.executor import StageInstance
from mace_core.scheduler.running.parallel import ParallelInstance
from mace_core.scheduler.values import RuntimeValue

if TYPE_CHECKING:
    from mace_core.scheduler.planning.concurrency import Tracks
    from mace_core.scheduler.planning.model_times import PartTimes
    from mace_core.scheduler.profile import Profile

_now = time.perf_counter_ns


class Sampling:
    """What the first runs of a plan took; shared by its instances."""

    def __init__(self, plan: StagePlan, times: PartTimes) -> None:
        self._plan = plan
        self._times = times
        self._runs = 0
        self._steps: dict[int, int] = {}  # the least nanoseconds, by the numbers of steps
        self._whole = 0
        self._lock: threading.Lock = fork_safe_lock()

    @property
    def is_over(self) -> bool:
        """Whether no further run is to be timed."""
        return self._runs > self._times.owner.samples  # the first one does not count

    @property
    def is_by_step(self) -> bool:
        """Whether the next run is to be timed partition by partition, where that makes a difference."""
        return self._runs % 2 == 0

    def add(self, whole_ns: int, steps: dict[int, int]) -> None:
        """One more run; ``steps``: nanoseconds by the numbers of steps, {} for a run timed as a whole."""
        with self._lock:
            if self.is_over:
                return
            self._runs += 1
            if self._runs > 1:
                for number, nanoseconds in steps.items():
                    self._steps[number] = min(nanoseconds, self._steps.get(number, nanoseconds))
                if whole_ns:
                    self._whole = min(whole_ns, self._whole or whole_ns)
            is_last = self.is_over
        if is_last:
            self._keep()

    def _keep(self) -> None:
        """Keep what was measured, for explanations and for later placements."""
        plan = self._plan
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for number, nanoseconds in self._steps.items():
            step = plan.steps[number]
            assert isinstance(step, RunStep)
            step.measured_ns = min(nanoseconds, step.measured_ns or nanoseconds)
            found.setdefault(step.device, {})[tuple(node.name for node in step.nodes)] = nanoseconds / 1e9
        for name, times in found.items():
            self._times.note_partitions(plan.devices[name], times)
        if self._whole:
            placements = plan.placed.partitioning.placements
            where = [(node.name, placements[node].device) for node in plan.stage.nodes]
            used = [device for name, device in plan.devices.items() if name in plan.busy_devices]
            self._times.note_run(where, used, self._whole / 1e9)


def sampling_of(plan: StagePlan) -> Sampling | None:
    """How the first runs of a plan are timed; None where nobody goes by that, or sizes vary."""
    times = plan.placed.times
    return None if times is None or plan.sizes is not None or plan.numerics is not None else Sampling(plan, times)


class _Sampled(StageInstance):
    """Times its runs until there are enough of them."""

    _ordinary: type[Any] = StageInstance
    _sampling: Sampling
    _took: dict[int, int] | None = None

    def run_single(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        cancel: CancelFlag | None,
        profile: Profile | None,
        targets: Mapping[Value, npt.NDArray[Any]] | None = None,
    ) -> list[npt.NDArray[Any]]:
        start = _now()
        results = super().run_single(arrays, cancel, profile, targets)
        if profile is None:
            took = _now() - start
            self._add(took, {0: took})
        return results

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        if self.plan.single is not None:
            return super().run(values, context)
        is_by_step = context.profile is None and self._sampling.is_by_step
        took = self._took = {} if is_by_step else None
        start = _now()
        results = super().run(values, context)
        if context.profile is None and not self._takes_turns:
            self._add(0 if is_by_step else _now() - start, took or {})
        return results

    def _run_subgraph(self, number: int, step: RunStep, context: RunContext) -> None:
        took = self._took
        if took is None:
            super()._run_subgraph(number, step, context)
            return
        self._wait(step.device)
        start = _now()
        super()._run_subgraph(number, step, context)
        self._wait(step.device)
        took[number] = _now() - start

    def _add(self, whole_ns: int, steps: dict[int, int]) -> None:
        self._sampling.add(whole_ns, steps)
        if self._sampling.is_over:
            self._took = None
            self.__class__ = self._ordinary


class _SampledParallel(_Sampled, ParallelInstance):
    _ordinary = ParallelInstance


def sampled_instance(plan: StagePlan, tracks: Tracks | None, sampling: Sampling) -> StageInstance:
    """An instance that times its first runs."""
    found = _Sampled(plan) if tracks is None else _SampledParallel(plan, tracks)
    found._sampling = sampling
    return found
