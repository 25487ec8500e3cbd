"""The fast path: a plan that is one subgraph on host memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from mace_core.graph import Value
from mace_core.host.memory import require_host_memory
from mace_core.provider import Buffer, CancelFlag
from mace_core.scheduler.planning.plan import StagePlan, Storage
from mace_core.scheduler.running.calls import run_execution
from mace_core.scheduler.running.registers import NO_TARGETS
from mace_core.scheduler.running.stage_memory import StageMemory
from mace_core.scheduler.running.step_bindings import profiled
from mace_core.scheduler.values import address_of
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile


class SingleRuns(StageMemory):
    """Runs the one step of a plan whose feeds are its inputs and whose results are new arrays."""

    def __init__(self, plan: StagePlan) -> None:
        super().__init__(plan)
        self._own_cancel = CancelFlag()  # never set
        if plan.single is not None:
            self._single_step = plan.single
            self._single_device = plan.devices[plan.single.device]
            self._prepare_single()
            if plan.sizes is None:
                self._require_room()

    def _prepare_single(self) -> None:
        """What `run_single` needs, at hand; shapes are looked up at each run."""
        plan = self.plan
        prepared = self._work[0]
        assert prepared is not None
        new = self._single_results = [r for r in plan.results if plan.registers[r].storage is Storage.FRESH]
        results = [(self._bound[r].buffer, self._bound[r], plan.registers[r].dtype.numpy) for r in new]
        feeds = [self._bound[r].buffer for r in plan.feeds]
        longer = {register: self._bound[register] for _, register in plan.grown}
        fed = {**{register: register for register in plan.feeds}, **{longer: source for source, longer in plan.grown}}
        self._joining = [
            (position, register, plan.feeds.index(fed[register]) if register in fed else None, longer.get(register))
            for position, register in enumerate(plan.results)
            if plan.registers[register].storage is not Storage.FRESH
        ]
        self._longer = [(plan.feeds.index(source), longer[register]) for source, register in plan.grown]
        self._apart = [(at, feeds[at]) for at, register in enumerate(plan.feeds) if register not in self._grown]
        self._written = [buffer for buffer, _, _ in results]
        self._single = prepared.execution, prepared.bindings, feeds, results

    def _require_room(self) -> None:
        """
        Raises:
            OutOfMemoryError: if there is no room for the results of `run_single`.
        """
        if self.plan.single is None:
            return
        require_host_memory(sum([math.prod(bound.shape) * dtype.itemsize for _, bound, dtype in self._single[3]]))

    def run_single(
        self,
        arrays: Sequence[npt.NDArray[Any]],
        cancel: CancelFlag | None,
        profile: Profile | None,
        targets: Mapping[Value, npt.NDArray[Any]] | None = None,
    ) -> list[npt.NDArray[Any]]:
        """Run a plan that has a single step: bind addresses, allocate outputs, one call."""
        execution, bindings, inputs, outputs = self._single
        if self._longer:
            for at, buffer in self._apart:
                buffer.address = address_of(arrays[at])
        else:
            for buffer, array in zip(inputs, arrays, strict=True):
                buffer.address = address_of(array)
        if targets:
            results = self._results_in(targets)
        else:
            results = []
            for buffer, bound, dtype in outputs:
                result = self._empty(bound.shape, dtype)
                buffer.address = address_of(result)
                results.append(result)
        for fed, longer in self._longer:
            inputs[fed].address = longer.buffer.address = arrays[fed].room.address  # type: ignore[attr-defined]
        bindings.cancel = self._own_cancel if cancel is None else cancel
        if self._rewriting:
            self._ran[:] = self._rewriting
        if profile is None:
            run_execution(execution, bindings, self._single_device)
        else:
            with profiled(bindings, profile, self._single_step):
                run_execution(execution, bindings, self._single_device)
        for position, register, source, grown in self._joining:
            if source is None:
                results.insert(position, self._taken(register))
            elif grown is None:
                results.insert(position, arrays[source])
            else:
                results.insert(position, arrays[source].room.part(grown.shape))  # type: ignore[attr-defined]
        if targets:
            self._targets = NO_TARGETS
        return results

    def run_at(self, feeds: Sequence[int], results: Sequence[int], cancel: CancelFlag | None) -> None:
        """As `run_single`, where all that is fed and computed has addresses."""
        execution, bindings, inputs, _ = self._single
        for buffer, address in zip(inputs, feeds, strict=True):
            buffer.address = address
        for buffer, address in zip(self._written, results, strict=True):
            buffer.address = address
        bindings.cancel = self._own_cancel if cancel is None else cancel
        run_execution(execution, bindings, self._single_device)

    def _results_in(self, targets: Mapping[Value, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Let what is computed be written into arrays of the caller, as far as there are any."""
        self._targets = targets  # forgotten after a run that ends well; after another one this is not used again
        results = []
        for register in self._single_results:
            bound = self._bound[register]
            target = self._target(register, bound.dtype, bound.shape)
            result = self._empty(bound.shape, bound.dtype.numpy) if target is None else target
            bound.buffer.address = address_of(result)
            results.append(result)
        return results

    def _taken(self, register: int) -> npt.NDArray[Any]:
        """What the run made of a result whose shape it decided; a copy of one that is a constant."""
        constant = self.plan.registers[register].constant
        if constant is not None:
            return constant.numpy().copy()
        found: Any = self._arrays[register]
        self._arrays[register] = None
        self._bound[register].buffer = Buffer(MemoryKind.HOST, 0)
        return found  # type: ignore[no-any-return]
