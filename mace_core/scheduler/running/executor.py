"""Runs a stage plan: one `StageInstance` per concurrent request holds arenas, argument state and queues."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError
from mace_core.graph import Value
from mace_core.host.memory import require_host_memory
from mace_core.provider import (
    Allocator,
    Bindings,
    BoundTensor,
    Buffer,
    CancelFlag,
    DataTransfer,
    Event,
    Execution,
    Stream,
)
from mace_core.provider.border import attempt, calling, close_all, instance_of
from mace_core.provider.memory import HostAllocator
from mace_core.scheduler.context import RunContext, follows_others
from mace_core.scheduler.numerics import NumericsCheck
from mace_core.scheduler.planning.plan import (
    HOST,
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
from mace_core.scheduler.running.registers import Registers
from mace_core.scheduler.running.step_bindings import copy_bytes, profiled, profiled_if, unbound_output
from mace_core.scheduler.values import (
    RuntimeValue,
    address_of,
    fresh_storage,
    read_bound,
    storage,
)
from mace_core.symbolic import hint
from mace_core.tensor import DType, MemoryKind

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import SessionDevice
    from mace_core.scheduler.planning.sizes import StageValues
    from mace_core.scheduler.profile import Profile

_log = logging.getLogger("mace")


@dataclass(slots=True, eq=False)
class _Prepared:
    """A run step's argument state; dynamic where a shape comes out of the run."""

    execution: Execution
    bindings: Bindings
    is_dynamic: bool


class StageInstance(Registers):
    """Everything one request needs to run a plan; used by one thread at a time."""

    # where new arrays come from
    _empty: Callable[..., npt.NDArray[Any]] = staticmethod(np.empty)
    _fresh: Callable[..., npt.NDArray[Any]] = staticmethod(fresh_storage)

    def __init__(self, plan: StagePlan) -> None:
        self.plan = plan
        self._arenas: dict[str, tuple[Allocator, Buffer]] = {}
        self._executions: list[tuple[str, Execution]] = []  # with their devices
        self._streams: dict[str, Stream] = {}
        self._host_queues: list[str] = []
        self._pending: dict[str, list[Event]] = {}
        self._temporary: list[tuple[str, Allocator, Buffer]] = []
        self._own_cancel = CancelFlag()  # never set
        self._has_many_devices = len(plan.busy_devices) > 1
        self._takes_turns = False
        self._imports = Imports(plan)
        try:
            self.host_arena = Buffer(MemoryKind.HOST, 0)
            self.needed_bytes = 0
            self.needs_arena = False
            for location, arena in plan.arenas.items():
                allocator: Allocator = HostAllocator()
                if location == HOST:
                    buffer = self.host_arena
                    self.needed_bytes = hint(arena.total_bytes)
                    self.needs_arena = self.needed_bytes > 0
                else:
                    allocator = plan.devices[location].allocator()
                    buffer = plan.devices[location].allocate(allocator, arena.total_bytes)
                self._arenas[location] = (allocator, buffer)
            for name, device in plan.devices.items():
                stream = device.stream()
                if stream is not None:
                    self._streams[name] = stream
                    if device.memory is not MemoryKind.DEVICE:
                        self._host_queues.append(name)
            super().__init__(plan, self._arenas)
            self._new = [i for i, register in enumerate(plan.registers) if register.storage is Storage.FRESH]
            self._work = [self._prepare(step) for step in plan.steps]
            self._rewriting = {
                prepared.execution: (prepared.bindings, step.device)
                for step, prepared in zip(plan.steps, self._work, strict=True)
                if prepared is not None and isinstance(step, RunStep) and step.writes_over
            }
            self._ran: list[Execution] = []
            self._transfers: dict[str, DataTransfer] = {}
            for step in plan.transfers:
                device = plan.devices[step.device]
                if device.memory is MemoryKind.DEVICE:
                    self._transfers[step.device] = device.transfer()
            self._sizes: StageValues | None = None
            self._queueable = queueable_copies(plan) if self._streams else frozenset()
        except BaseException:
            self.close()
            raise
        if plan.single is not None:
            self._single_step = plan.single
            self._single_device = plan.devices[plan.single.device]
            self._prepare_single()
            if plan.sizes is None:
                self._require_results()

    def _prepare_single(self) -> None:
        """What `run_single` needs, at hand; shapes are looked up at each run."""
        plan = self.plan
        prepared = self._work[0]
        assert prepared is not None
        new = [r for r in plan.results if plan.registers[r].storage is Storage.FRESH]
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
        self._single = prepared.execution, prepared.bindings, feeds, results

    def _require_results(self) -> None:
        """
        Raises:
            OutOfMemoryError: if there is no room for the results of `run_single`.
        """
        require_host_memory(sum([math.prod(bound.shape) * dtype.itemsize for _, bound, dtype in self._single[3]]))

    def resize(self, sizes: StageValues) -> None:
        """Make the instance ready for a run with these sizes."""
        if sizes is self._sizes:
            return
        self._sizes = None  # what fails below leaves no sizes that would be taken for granted
        for location, nbytes in sizes.arenas.items():
            if location == HOST:
                self.needed_bytes = nbytes
                self.needs_arena = self.host_arena.nbytes < nbytes
            else:
                self._make_room(location, nbytes)
        for index, shape, offset in sizes.registers:
            bound = self._bound[index]
            bound.shape, bound.offset = shape, offset
        for number, nbytes, offset in sizes.workspaces:
            prepared = self._work[number]
            assert prepared is not None and prepared.bindings.workspace is not None
            prepared.bindings.workspace.shape, prepared.bindings.workspace.offset = (nbytes,), offset
        for index, content in sizes.contents:
            self._point(index, storage(content, self._bound[index].dtype), content.shape)
        for prepared in self._work:
            if prepared is not None:
                prepared.bindings.sizes = sizes.symbols
        if self.plan.single is not None:
            self._require_results()
        self._sizes = sizes

    # --- the turns of a loop: one subgraph on host memory, see `turning` -------------------------------------------

    def prepared(self) -> tuple[Execution, Bindings]:
        """What runs the first step."""
        found = self._work[0]
        assert found is not None
        return found.execution, found.bindings

    def single_device(self) -> SessionDevice:
        """The device of the first step."""
        step = self.plan.steps[0]
        assert isinstance(step, RunStep)
        return self.plan.devices[step.device]

    def symbols(self) -> Sequence[int]:
        """The sizes that `resize` was given."""
        return () if self._sizes is None else self._sizes.symbols

    def shape_of(self, register: int) -> tuple[int, ...]:
        return self._bound[register].shape

    def bytes_of(self, register: int) -> int:
        return self._bound[register].nbytes

    def address_of(self, register: int) -> int:
        return self._bound[register].address

    def arena(self) -> tuple[int, int]:
        """Address and bytes of the arena on the host."""
        if HOST not in self._arenas:
            return 0, 0
        buffer = self._arenas[HOST][1]
        return buffer.address, buffer.nbytes

    def grow_arena(self, nbytes: int) -> None:
        """Make the arena on the host larger; its content is lost."""
        self._make_room(HOST, nbytes)

    def _make_room(self, location: str, nbytes: int) -> None:
        allocator, buffer = self._arenas[location]
        if buffer.nbytes < nbytes:
            # a little more than is needed now: what grows from run to run grows again
            larger = allocator.allocate(nbytes + nbytes // 8)
            allocator.free(buffer)
            buffer.address, buffer.nbytes, buffer.handle = larger.address, larger.nbytes, larger.handle

    def undo(self) -> None:
        """After a run that was given up: put back what it wrote over what was fed."""
        for execution in reversed(self._ran):
            bindings, device = self._rewriting[execution]
            with self._calling(device, "Execution.undo"):
                execution.undo(bindings)
        self._ran.clear()

    # --- the fast path: one subgraph on host memory ---------------------------------------------------------------

    def run_single(
        self, arrays: Sequence[npt.NDArray[Any]], cancel: CancelFlag | None, profile: Profile | None
    ) -> list[npt.NDArray[Any]]:
        """Run a plan that has a single step: bind addresses, allocate outputs, one call."""
        execution, bindings, inputs, outputs = self._single
        if self._longer:
            for at, buffer in self._apart:
                buffer.address = address_of(arrays[at])
        else:
            for buffer, array in zip(inputs, arrays, strict=True):
                buffer.address = address_of(array)
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

    # --- the general path -----------------------------------------------------------------------------------------

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        """Run all steps; ``values`` in the order of the plan's feeds, results in the order of its outputs."""
        plan = self.plan
        self._imports.check_readers(values)
        if plan.single is not None:
            arrays = [
                self._fed_single(register, value, values) for register, value in zip(plan.feeds, values, strict=True)
            ]
            return self.run_single(arrays, context.cancel, context.profile)
        self._ran.clear()
        self._takes_turns = self._has_many_devices and follows_others()
        try:
            for value, register in zip(values, plan.feeds, strict=True):
                self._feed(register, self._roomy(register, value, values) if register in self._grown else value)
            for register in self._new:
                spec = plan.registers[register]
                assert spec.shape is not None
                self._point(register, self._fresh(spec.dtype, self._bound[register].shape))
            self._run_steps(context)
            return [self._result(register) for register in plan.results]
        except BaseException:
            self._settle()
            raise
        finally:
            self._forget()

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

    def _wait(self, device: str) -> None:
        """Until what was queued on ``device`` is done."""
        pending = self._pending.get(device)
        while pending:
            with self._calling(device, "Event.wait"):
                pending[0].wait()
            pending.pop(0)

    def _calling(self, device: str, call: str) -> calling:
        return self.plan.devices[device].calling(call)

    def _settle(self) -> None:
        """After a failure: nothing may still be running on memory that is about to be given up."""
        for name, stream in self._streams.items():
            try:
                with self._calling(name, "Stream.synchronize"):
                    stream.synchronize()
            except MaceError as error:
                _log.info("%s; it was work of a run that is given up", error)
        self._pending.clear()

    def _wait_for_host_memory(self, *, but: str = "") -> None:
        """Until no queue works on host memory any more, but for that of a device whose own order takes care."""
        for name in self._host_queues:
            if name != but:
                self._wait(name)

    def _wait_all(self) -> None:
        for device in self._pending:
            self._wait(device)

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
            self._point(step.target, self._fresh(source.dtype, source.shape), source.shape)
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

    # --- preparation ----------------------------------------------------------------------------------------------

    def _prepare(self, step: Step) -> _Prepared | None:
        if not isinstance(step, RunStep):
            return None
        with self._calling(step.device, "CompiledSubgraph.new_execution"):
            execution = instance_of(Execution, step.compiled.new_execution())
        self._executions.append((step.device, execution))
        registers = self.plan.registers
        outputs = [None if registers[r].storage is Storage.DYNAMIC else self._bound[r] for r in step.outputs]
        workspace = None
        if step.workspace_bytes:
            arena = self._arenas[step.location][1]
            shape = (hint(step.workspace_bytes),)
            workspace = BoundTensor(DType.UINT8, shape, arena, hint(step.workspace_offset))
        bindings = Bindings(
            inputs=[self._bound[r] for r in step.inputs],
            outputs=outputs,
            workspace=workspace,
            allocate_output=self._output_allocator(step) if None in outputs else None,
        )
        return _Prepared(execution, bindings, None in outputs)

    def _output_allocator(self, step: RunStep) -> Any:
        def allocate(index: int, dtype: DType, shape: tuple[int, ...]) -> BoundTensor:
            register = unbound_output(step, self.plan.registers, index, dtype, shape)
            bound = self._bound[register]
            bound.dtype, bound.shape = dtype, shape
            if dtype is DType.STRING:
                bound.buffer = Buffer(MemoryKind.OBJECT, 0)
            elif step.location == HOST:
                self._point(register, self._fresh(dtype, shape), shape)
            else:
                device = self.plan.devices[step.device]
                allocator = device.allocator()
                bound.buffer = device.allocate(allocator, dtype.nbytes(math.prod(shape)))
                bound.offset = 0
                self._temporary.append((step.device, allocator, bound.buffer))
            return bound

        return allocate

    def close(self) -> None:
        """Free all of it, once what is queued is done."""
        self._settle()
        for name, execution in self._executions:
            close_all((execution,), name, "Execution.close", self.plan.placed.model)
        for name, stream in self._streams.items():
            close_all((stream,), name, "Stream.close", self.plan.placed.model)
        for place in (*self._temporary, *((name, *arena) for name, arena in self._arenas.items())):
            self._free(*place)
        self._executions, self._streams, self._temporary, self._arenas = [], {}, [], {}

    def _free(self, device: str, allocator: Allocator, buffer: Buffer) -> None:
        attempt(allocator.free, device, "Allocator.free", self.plan.placed.model, buffer)
