"""An instance of a stage plan whose memory is poisoned, see `mace_core.provider.poison`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.provider import BoundTensor, Buffer, CancelFlag
from mace_core.provider.poison import fill, poison_byte
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning.plan import RunStep, StagePlan, Step, Storage
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running.executor import StageInstance
from mace_core.scheduler.running.parallel import ParallelInstance
from mace_core.scheduler.running.sampling import Sampling, sampled_instance
from mace_core.scheduler.values import RuntimeValue, address_of, fresh_storage
from mace_core.tensor import DType, MemoryKind


def new_instance(plan: StagePlan, sampling: Sampling | None = None) -> StageInstance:
    """An instance of ``plan``; a poisoned one where that is asked for, else one whose devices work at the same time
    where they can.  ``sampling``: of its first runs."""
    byte = poison_byte()
    if byte is not None:
        return PoisonedInstance(plan, byte)
    if sampling is not None and not sampling.is_over:
        return sampled_instance(plan, plan.tracks, sampling)
    return StageInstance(plan) if plan.tracks is None else ParallelInstance(plan, plan.tracks)


class PoisonedInstance(StageInstance):
    """Fills all arenas before and after a run, each place in them after the last step that needs it, and new arrays.

    Its steps run one after the other, also where devices could work at the same time.
    """

    def __init__(self, plan: StagePlan, byte: int) -> None:
        super().__init__(plan)
        self._byte = byte
        self._pattern = np.empty(0, np.uint8)
        self._ends: dict[int, list[tuple[str, BoundTensor]]] = {}
        for register, bound in zip(plan.registers, self._bound, strict=True):
            if register.storage is Storage.ARENA:
                self._ends.setdefault(register.last, []).append((register.location, bound))
        for number, (step, prepared) in enumerate(zip(plan.steps, self._work, strict=True)):
            if not isinstance(step, RunStep) or step.writes_over:
                continue
            if prepared is not None and prepared.bindings.workspace is not None:
                self._ends.setdefault(number, []).append((step.location, prepared.bindings.workspace))

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        if self.plan.single is not None:
            return super().run(values, context)
        self._fill_arenas()
        results = super().run(values, context)
        self._fill_arenas()
        return results

    def run_single(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        cancel: CancelFlag | None,
        profile: Profile | None,
        targets: Mapping[Value, npt.NDArray[Any]] | None = None,
    ) -> list[npt.NDArray[Any]]:
        self._fill_arenas()
        results = super().run_single(arrays, cancel, profile, targets)
        self._fill_arenas()
        return results

    def run_at(self, feeds: Sequence[int], results: Sequence[int], cancel: CancelFlag | None) -> None:
        self._fill_arenas()
        super().run_at(feeds, results, cancel)
        self._fill_arenas()

    def _empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.empty(shape, dtype)
        fill(address_of(array), array.nbytes, self._byte)
        return array

    def _fresh(self, dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        array = fresh_storage(dtype, shape)
        if array.dtype != object:
            fill(address_of(array), array.nbytes, self._byte)
        return array

    def _execute(self, number: int, step: Step, context: RunContext) -> None:
        super()._execute(number, step, context)
        for location, bound in self._ends.get(number, ()):
            self._fill(location, bound.offset, bound.nbytes)

    def _fill_arenas(self) -> None:
        for location, (_, buffer) in self._arenas.items():
            self._fill(location, 0, buffer.nbytes)
        self._wait_all()

    def _fill(self, location: str, offset: int, nbytes: int) -> None:
        """Fill a part of an arena as soon as the plan may use it for something else."""
        if not nbytes:
            return
        target = self._arenas[location][1]
        if target.memory is not MemoryKind.DEVICE:
            self._wait_for_host_memory()
            if location in self.plan.devices:  # memory that a device works on, too
                self._wait(location)
            target.host_bytes()[offset : offset + nbytes] = self._byte
            return
        if self._pattern.nbytes < nbytes:
            self._pattern = np.full(nbytes, self._byte, np.uint8)
        source = Buffer(MemoryKind.HOST, nbytes, address_of(self._pattern), self._pattern)
        transfer, stream = self.plan.devices[location].transfer(), self._streams.get(location)
        queued = None
        if stream is not None:
            queued = transfer.enqueue_to_device(stream, source, target, nbytes, target_offset=offset)
        if queued is not None:
            self._pending.setdefault(location, []).append(queued)
        else:
            self._wait(location)
            transfer.to_device(source, target, nbytes, target_offset=offset)
