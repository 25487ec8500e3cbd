"""A subgraph that is ready to run, and a run of it."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from mace_core.errors import DataError
from mace_core.native.plan import NativePlan, PlanStep
from mace_core.native.pool import ThreadPool
from mace_core.native.runner_ir import GATE as GATE_ADDRESS
from mace_core.provider.backend import CompiledSubgraph
from mace_core.provider.execution import Bindings, CancelFlag, Execution, FoundOutput, NativeStage, Turns
from mace_cpu.plan.assembly import GATE, JOURNAL_WORDS, STATUS_WORDS, Assembly, SizedByRun
from mace_cpu.plan.inner_times import InnerTimes


class CpuSubgraph(CompiledSubgraph):
    """A native plan and its constants."""

    def __init__(
        self, assembly: Assembly, addresses: Mapping[str, int], pool: ThreadPool | None, threads: int, device: str
    ) -> None:
        self.assembly = assembly
        self.source_map = {step.name: step.source for step in assembly.steps}
        for inner in assembly.inner:
            self.source_map.update(zip(inner.names, inner.sources, strict=True))
        self._constants = assembly.constants.address
        self.notes = assembly.notes
        self.in_place = frozenset(assembly.in_place)
        self.journals = assembly.journals
        self.workspace_bytes = assembly.workspace_bytes
        self.faults = assembly.faults
        self.pool = pool
        self.threads = threads
        self.device = device
        kernels = {**addresses, GATE: GATE_ADDRESS}
        steps = [PlanStep(kernels[step.symbol], *step[1:]) for step in assembly.steps]
        words = assembly.words
        if assembly.calls:
            words = words.copy()
            for word, symbol in assembly.calls:
                words[word] = addresses[symbol]
        control_words = [step.first_word - 1 for step in assembly.steps]
        self.plan = NativePlan(steps, words, assembly.relocations, control_words, assembly.sizes)

    def new_execution(self) -> Execution:
        return CpuExecution(self)

    def bases(self, bindings: Bindings) -> list[int]:
        """The address per slot: arena, constants, inputs, outputs (and the words that an execution adds)."""
        # `BoundTensor.address`, written out: this is a large part of what a run of a small subgraph takes
        workspace = bindings.workspace
        return [
            0 if workspace is None else workspace.buffer.address + workspace.offset,
            self._constants,
            *[tensor.buffer.address + tensor.offset for tensor in bindings.inputs],
            # an output of unknown shape is computed in the arena and copied when its shape is known
            *[0 if output is None else output.buffer.address + output.offset for output in bindings.outputs],
        ]


class CpuExecution(Execution):
    """Argument words of one request at a time."""

    def __init__(self, compiled: CpuSubgraph) -> None:
        self._compiled = compiled
        self._instance = compiled.plan.new_instance()
        # at hand: to look these up takes longer than some plans
        self._has_sizes = compiled.plan.sizes is not None
        self._slots = compiled.plan.slots
        self._may_fail = bool(compiled.faults)
        self._sized_by_run = compiled.assembly.sized_by_run
        self._sizes: Sequence[int] = ()
        self._status = np.zeros(len(compiled.faults) * STATUS_WORDS, np.int64)
        self._status_bytes = self._status.data.cast("B")
        self._no_fault = bytes(self._status.nbytes)
        self._dims = np.zeros(compiled.assembly.dim_words, np.int64)
        self._own_words = [
            int(self._status.ctypes.data),
            int(self._dims.ctypes.data),
        ]

    def run(self, bindings: Bindings) -> None:
        compiled = self._compiled
        if self._has_sizes and bindings.sizes is not self._sizes:
            self._instance.resize(bindings.sizes)
            self._sizes = bindings.sizes
        for first in compiled.journals:
            self._dims[first] = 0
        bases = compiled.bases(bindings)
        bases += self._own_words
        del bases[self._slots :]  # the plan counts the slots up to the last one that a step uses
        if bindings.profile is None and bindings.profile_part is None:
            self._instance.run(bases, pool=compiled.pool, threads=compiled.threads, cancel=bindings.cancel)
        else:
            self._run_profiled(bases, bindings)
        if self._may_fail and self._status_bytes != self._no_fault:
            raise self._fault()
        for output in self._sized_by_run:
            self._hand_over(output, bindings)

    def _run_profiled(self, bases: Sequence[int], bindings: Bindings) -> None:
        compiled, steps = self._compiled, self._compiled.assembly.steps
        inner = InnerTimes(self._instance, compiled.assembly.inner)
        with inner.noted():
            self._instance.run(
                bases, pool=compiled.pool, threads=compiled.threads, cancel=bindings.cancel, profile=True
            )
        if bindings.profile is not None:
            for index, start_ns, end_ns in self._instance.timings():
                if index in inner.steps:
                    inner.report(index, start_ns, end_ns, bindings.profile)
                else:
                    bindings.profile(steps[index].name, steps[index].source, start_ns, end_ns)
        if bindings.profile_part is not None:
            names = {thread.ident: thread.name for thread in threading.enumerate()}

            def worker(thread: int) -> str:
                return names.get(thread, f"thread {thread:#x}")

            for each in self._instance.chunk_times():
                if each.step not in inner.steps:
                    step = steps[each.step]
                    bindings.profile_part(worker(each.thread), step.name, step.source, each.start_ns, each.end_ns)
            for index in inner.steps:
                inner.report_parts(index, worker, bindings.profile_part)

    def undo(self, bindings: Bindings) -> None:
        for first in reversed(self._compiled.journals):
            journal, rows, row_bytes, target = self._dims[first : first + JOURNAL_WORDS].tolist()
            if journal:
                places = np.frombuffer((ctypes.c_int64 * rows).from_address(journal), np.int64).tolist()
                for row, place in enumerate(places):
                    if place >= 0:
                        ctypes.memmove(target + place, journal + 8 * rows + row * row_bytes, row_bytes)
            self._dims[first] = 0

    def run_turns(self, bindings: Bindings, turns: Turns) -> bool:
        compiled = self._compiled
        if compiled.assembly.sized_by_run or not compiled.plan.steps:
            return False
        self._sizes = ()  # another turn's are written into the plan
        bases = [*compiled.bases(bindings), *self._own_words]
        del bases[compiled.plan.slots :]
        self._instance.run_turns(
            turns, bases, faults=self._status, pool=compiled.pool, threads=compiled.threads, cancel=bindings.cancel
        )
        if compiled.faults and self._status.any():
            raise self._fault()
        return True

    def native_stage(self, bindings: Bindings, turns: Turns) -> NativeStage | None:
        compiled = self._compiled
        is_pinned = compiled.pool is not None and compiled.pool.home is not None
        if compiled.journals or not compiled.plan.steps or is_pinned:
            return None
        self._sizes = ()  # others are written into the plan
        return _CpuStage(self, bindings, turns)

    def _hand_over(self, output: SizedByRun, bindings: Bindings) -> None:
        """Copy an output whose shape is known now to memory of that shape."""
        assert bindings.allocate_output is not None
        shape = tuple(self._dims[output.first_word : output.first_word + output.rank].tolist())
        tensor = bindings.allocate_output(output.output, output.dtype, shape)
        nbytes = output.dtype.nbytes(math.prod(shape))
        if nbytes:
            offset = output.offset if output.offset_word < 0 else self._instance.word(output.offset_word)
            ctypes.memmove(tensor.address, _workspace(bindings) + offset, nbytes)

    def _fault(self) -> DataError:
        """The first fault that a kernel reported; the status words are cleared."""
        flags = self._status.reshape(-1, STATUS_WORDS)
        index = int(flags[:, 0].argmax())
        fault, value = self._compiled.faults[index], int(flags[index, 1])
        self._status.fill(0)
        device = self._compiled.device
        told = fault.message.replace("{value}", str(value))  # names in it may have braces of their own
        message = f"node '{fault.node}' on {device}: {told}"
        return DataError(message, node=fault.node, device=device)


class _CpuStage(NativeStage):
    def __init__(self, execution: CpuExecution, bindings: Bindings, turns: Turns) -> None:
        compiled, instance = execution._compiled, execution._instance
        self._execution, self._compiled, self._instance = execution, compiled, instance
        bases = [*compiled.bases(bindings), *execution._own_words]
        del bases[compiled.plan.slots :]
        self.block = instance.stage(turns, bases, faults=execution._status)
        self.may_fail = bool(compiled.faults)
        sized = compiled.assembly.sized_by_run
        self._offsets = np.array([each.offset for each in sized], np.int64)
        dims, offsets = int(execution._dims.ctypes.data), int(self._offsets.ctypes.data)
        self.found = [
            FoundOutput(
                each.output,
                dims + 8 * each.first_word,
                each.rank,
                offsets + 8 * i if each.offset_word < 0 else instance.address_of_word(each.offset_word),
            )
            for i, each in enumerate(sized)
        ]

    def begin(self, cancel: CancelFlag) -> None:
        compiled = self._compiled
        self._instance.begin_stage(pool=compiled.pool, threads=compiled.threads, cancel=cancel)

    def stop(self) -> None:
        self._instance.stop()

    def check(self) -> None:
        execution = self._execution
        if self.may_fail and execution._status_bytes != execution._no_fault:
            raise execution._fault()


def _workspace(bindings: Bindings) -> int:
    """The address that offsets into the arena count from."""
    return bindings.workspace.address if bindings.workspace is not None else 0
