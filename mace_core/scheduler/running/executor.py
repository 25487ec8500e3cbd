"""Runs a stage plan: one `StageInstance` per concurrent request holds arenas, argument state and queues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy.typing as npt

from mace_core.graph import Value
from mace_core.provider import Bindings, DataTransfer, Event, Execution
from mace_core.provider.border import instance_of
from mace_core.scheduler.context import RunContext, follows_others
from mace_core.scheduler.numerics import NumericsCheck
from mace_core.scheduler.planning.plan import (
    ControlStep,
    CutStep,
    DownloadStep,
    PadStep,
    RunStep,
    StagePlan,
    Step,
    Storage,
    UploadStep,
)
from mace_core.scheduler.running.calls import run_execution
from mace_core.scheduler.running.copies import queue_copy, queueable_copies
from mace_core.scheduler.running.imports import Imports
from mace_core.scheduler.running.padded_copies import cut_into, pad_into
from mace_core.scheduler.running.single_runs import SingleRuns
from mace_core.scheduler.running.step_bindings import copy_bytes, profiled, profiled_if
from mace_core.scheduler.values import RuntimeValue, read_bound
from mace_core.tensor import DType, MemoryKind


class StageInstance(SingleRuns):
    """Everything one request needs to run a plan; used by one thread at a time."""

    def __init__(self, plan: StagePlan) -> None:
        super().__init__(plan)
        self._has_many_devices = len(plan.busy_devices) > 1
        self._takes_turns = False
        self._imports = Imports(plan)
        self._new = [i for i, register in enumerate(plan.registers) if register.storage is Storage.FRESH]
        self._transfers: dict[str, DataTransfer] = {}
        try:
            for step in plan.transfers:
                device = plan.devices[step.device]
                if device.memory is MemoryKind.DEVICE:
                    self._transfers[step.device] = device.transfer()
            self._queueable = queueable_copies(plan) if self._streams else frozenset()
        except BaseException:
            self.close()
            raise

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        """Run all steps; ``values`` in the order of the plan's feeds, results in the order of its outputs."""
        plan = self.plan
        self._imports.check_readers(values)
        if plan.single is not None:
            arrays = [
                self._fed_single(register, value, values) for register, value in zip(plan.feeds, values, strict=True)
            ]
            return self.run_single(arrays, context.cancel, context.profile, context.targets)
        self._ran.clear()
        self._takes_turns = self._has_many_devices and follows_others()
        if context.targets:
            self._targets = context.targets
        try:
            for value, register in zip(values, plan.feeds, strict=True):
                self._feed(register, self._roomy(register, value, values) if register in self._grown else value)
            for register in self._new:
                spec = plan.registers[register]
                assert spec.shape is not None
                self._point(register, self._new_array(register, spec.dtype, self._bound[register].shape))
            self._run_steps(context)
            return [self._result(register) for register in plan.results]
        except BaseException:
            self._settle()
            raise
        finally:
            self._forget()

    def _new_array(self, register: int, dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Where a result is put: an array of the caller, or a new one."""
        target = self._target(register, dtype, shape) if self._targets else None
        if target is None:
            return self._fresh(dtype, shape)
        return target

    def _run_steps(self, context: RunContext) -> None:
        """Run all steps, until what they queued is done."""
        plan = self.plan
        for number, step in enumerate(plan.steps):
            self._execute(number, step, context)
            if plan.numerics is not None and isinstance(step, RunStep | ControlStep):
                self._check_numbers(plan.numerics, step)
        self._wait_all()

    def _execute(self, number: int, step: Step, context: RunContext) -> None:
        start_ns = time.perf_counter_ns() if context.profile is not None else 0
        match step:
            case RunStep():
                self._run_subgraph(number, step, context)
                return
            case UploadStep() if self._imports.take(step, self._arrays[step.source], self._bound[step.target]):
                return
            case UploadStep() if number in self.plan.lent and self._lend(step):
                return
            case UploadStep() | DownloadStep() if context.profile is None and self._queue(number, step):
                return
            case UploadStep():
                self._wait_for_host_memory()
                self._wait(step.device)
                start_ns = time.perf_counter_ns() if start_ns else 0  # waiting for kernels is not the transfer's time
                self._upload(step)
                what = f"transfer to {step.device}: {self.plan.registers[step.source].value.name}"
                source: tuple[str, ...] = ()
            case DownloadStep():
                self._wait_for_host_memory()
                self._wait(step.device)
                start_ns = time.perf_counter_ns() if start_ns else 0
                self._download(step)
                what = f"transfer from {step.device}: {self.plan.registers[step.source].value.name}"
                source = ()
            case PadStep() | CutStep():
                self._wait_for_host_memory()
                ends = read_bound(self._bound[step.source]), read_bound(self._bound[step.target])
                is_padding = isinstance(step, PadStep)
                (pad_into if is_padding else cut_into)(*ends)
                what = f"{'padding' if is_padding else 'cutting'} of {self.plan.registers[step.source].value.name}"
                source = ()
            case ControlStep():
                self._wait_all()
                results = step.control.run([self._result(r) for r in step.inputs], context)
                for register, value in zip(step.outputs, results, strict=True):
                    self._accept(register, value, step)
                what, source = step.node.name, step.node.source
        if context.profile is not None:
            context.profile.recorder("core")(what, source, start_ns, time.perf_counter_ns())

    def _check_numbers(self, numerics: NumericsCheck, step: RunStep | ControlStep) -> None:
        """Wait for the step and look at what it computed.

        Raises:
            NumericsError: if that is not finite.
        """
        self._wait_all()
        registers = self.plan.registers
        nodes, device = (step.nodes, step.device) if isinstance(step, RunStep) else ((step.node,), "core")
        known = {registers[r].value: r for r in step.inputs}

        def read(value: Value) -> RuntimeValue:
            constant = value.constant or self.plan.stage.known.get(value)
            return self._content(known[value]) if value in known else None if constant is None else constant.numpy()

        numerics.check(nodes, device, {registers[r].value: self._content(r) for r in step.outputs}, read)

    def _run_subgraph(self, number: int, step: RunStep, context: RunContext) -> None:
        prepared = self._work[number]
        assert prepared is not None
        execution, bindings = prepared.execution, prepared.bindings
        bindings.cancel = context.cancel
        if prepared.is_plain and context.profile is None and not self._takes_turns:
            run_execution(execution, bindings, prepared.device)
            return
        if step.touches_host:
            self._wait_for_host_memory(but=step.device)
        if self._takes_turns:
            device = self.plan.devices[step.device]
            with device.turn, profiled_if(context.profile, bindings, step):
                self._start(step, execution, bindings)
                self._wait(step.device)
        elif context.profile is None:
            self._start(step, execution, bindings)
        else:
            with profiled(bindings, context.profile, step):
                self._start(step, execution, bindings)
                self._wait(step.device)
        if prepared.is_dynamic:  # the shapes are needed now
            self._wait(step.device)

    def _start(self, step: RunStep, execution: Execution, bindings: Bindings) -> None:
        """Run, or queue where the device has a queue."""
        if execution in self._rewriting:
            self._ran.append(execution)
        stream = self._streams.get(step.device)
        if stream is None:
            run_execution(execution, bindings, self.plan.devices[step.device])
            return
        pending = self._pending.setdefault(step.device, [])
        with self._calling(step.device, "Execution.enqueue"):
            event = instance_of(Event, execution.enqueue(stream, bindings, tuple(pending)))
        pending[:] = [event]

    def _lend(self, step: UploadStep) -> bool:
        """Let the device work on what was computed where it is; False where it is to be copied."""
        self._wait_for_host_memory()
        return self._imports.take_computed(step, self._bound[step.source], self._bound[step.target])

    def _queue(self, number: int, step: UploadStep | DownloadStep) -> bool:
        """Let the device's queue do a copy, so that nobody waits for it before the end of the run."""
        transfer, stream = self._transfers.get(step.device), self._streams.get(step.device)
        if number not in self._queueable or transfer is None or stream is None:
            return False
        call = "DataTransfer.enqueue_to_device" if isinstance(step, UploadStep) else "DataTransfer.enqueue_to_host"
        with self._calling(step.device, call):
            event = instance_of((Event, NoneType), queue_copy(transfer, stream, step, self._bound))
        if event is None:
            return False
        self._pending.setdefault(step.device, []).append(event)
        return True

    def _upload(self, step: UploadStep) -> None:
        source, target = self._bound[step.source], self._bound[step.target]
        nbytes = self.plan.registers[step.source].nbytes
        if not nbytes:
            return
        if target.buffer.memory is MemoryKind.PINNED:
            copy_bytes(source, target, nbytes)
        else:
            with self._calling(step.device, "DataTransfer.to_device"):
                self._transfers[step.device].to_device(
                    source.buffer, target.buffer, nbytes, source_offset=source.offset, target_offset=target.offset
                )

    def _download(self, step: DownloadStep) -> None:
        source, target = self._bound[step.source], self._bound[step.target]
        spec = self.plan.registers[step.target]
        if spec.storage is Storage.DYNAMIC:
            self._point(step.target, self._new_array(step.target, source.dtype, source.shape), source.shape)
            target.dtype = source.dtype
        nbytes = source.nbytes
        if not nbytes:
            return
        if source.buffer.memory is MemoryKind.PINNED:
            copy_bytes(source, target, nbytes)
        else:
            with self._calling(step.device, "DataTransfer.to_host"):
                self._transfers[step.device].to_host(
                    source.buffer, target.buffer, nbytes, source_offset=source.offset, target_offset=target.offset
                )

    def _forget(self) -> None:
        """Let go of what a request brought and took."""
        self._imports.release()
        while self._temporary:
            self._free(*self._temporary.pop())
        self._forget_values()
