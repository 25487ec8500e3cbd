"""Compiled subgraphs and their executions."""

from __future__ import annotations

import ctypes as c
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from mace_core.errors import CancelledError, UnsupportedError
from mace_core.provider import (
    Allocator,
    Bindings,
    BoundTensor,
    Buffer,
    CompiledSubgraph,
    Event,
    Execution,
    HostAllocator,
    Stream,
)
from mace_core.provider.worker_queue import WorkerQueue
from mace_core.tensor import DType
from mace_hexagon.borders import require_input, require_output
from mace_hexagon.builder import BuiltGraph, Port
from mace_hexagon.qnn.handles import QnnContext
from mace_hexagon.qnn.marshal import Marshal
from mace_hexagon.qnn.power import PowerVotes
from mace_hexagon.qnn.profiling import QnnProfile
from mace_hexagon.qnn.rpcmem import SharedBlock
from mace_hexagon.qnn.types import MEMORY_HANDLE, MEMORY_RAW, Tensor
from mace_hexagon.timeline import CALL, steps


@dataclass(frozen=True, slots=True)
class Stage:
    """A graph of a subgraph, and which values it reads and writes.

    Attributes:
        reads, writes: for each of the graph's tensors the number of its value: the subgraph's inputs come first, then
            its outputs, then what stages hand to each other.
    """

    context: QnnContext
    built: BuiltGraph
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facilities:
    """What the executions of a device share.

    Attributes:
        power: votes for the clocks; None for a target that is not here.
        allocator: makes the memory between stages.
        profiling: how much of a run QNN is asked to tell.
    """

    power: PowerVotes | None
    allocator: Allocator = field(default_factory=HostAllocator)
    profiling: str = "detailed"


class HexagonSubgraph(CompiledSubgraph):
    """Finalized graphs, mostly one, in contexts that they may share with others."""

    def __init__(
        self,
        stages: Sequence[Stage],
        between: Sequence[int],
        sources: tuple[str, ...],
        constants: frozenset[str],
        facilities: Facilities,
    ) -> None:
        """Takes over one use of the context of each stage; ``between``: bytes of the values that stages hand on."""
        self.stages = tuple(stages)
        self.between = tuple(between)
        self.sources = sources
        self.consumed_constants = constants
        self.source_map: Mapping[str, tuple[str, ...]] = {
            CALL: (),
            **{stage.built.graph.name: sources for stage in stages},
            **{name: source for stage in stages for name, source in stage.built.steps.items()},
        }
        self.facilities = facilities
        self._lock = threading.Lock()
        self._closed = False

    def new_execution(self) -> Execution:
        if self.facilities.power is None:
            name = self.stages[0].context.device.name
            raise UnsupportedError(f"{name} is a target to compile for; it cannot run here", device=name)
        return HexagonExecution(self, self.facilities.power)

    def close(self) -> None:
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            for stage in self.stages:
                stage.context.release()


class HexagonExecution(Execution):
    """Tensor structures of its own over shared graphs; runs of one device take turns."""

    def __init__(self, compiled: HexagonSubgraph, power: PowerVotes) -> None:
        self._compiled = compiled
        self._power = power
        self._between: list[Buffer] = []
        try:
            for nbytes in compiled.between:
                self._between.append(compiled.facilities.allocator.allocate(nbytes))
        except BaseException:
            self.close()
            raise
        self._held = [BoundTensor(DType.UINT8, (buffer.nbytes,), buffer) for buffer in self._between]
        self._stages = [_StageExecution(stage) for stage in compiled.stages]

    def run(self, bindings: Bindings) -> None:
        self._run(bindings, queued=False)

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        assert isinstance(stream, WorkerQueue)
        return stream.submit(lambda: self._run(bindings, queued=True), wait)

    def close(self) -> None:
        buffers, self._between = self._between, []
        for buffer in buffers:
            self._compiled.facilities.allocator.free(buffer)

    def _run(self, bindings: Bindings, *, queued: bool) -> None:
        values = (*bindings.inputs, *bindings.outputs, *self._held)
        for stage in self._stages:
            name = stage.name
            if bindings.cancel.is_set:
                raise CancelledError(f"the run was cancelled before '{name}'")
            stage.bind(values, inputs=len(bindings.inputs))
            self._power.begin()
            try:
                if bindings.profile is None:
                    stage.execute(queued=queued)
                else:
                    stage.execute_profiled(bindings, self._compiled, queued=queued)
            finally:
                self._power.end()
            stage.check(values, outside=len(bindings.inputs) + len(bindings.outputs))
        if bindings.cancel.is_set:
            raise CancelledError(f"the run was cancelled during '{self._stages[-1].name}'")


class _StageExecution:
    """One graph with structures for its tensors; memory is told to QNN once, until it is elsewhere."""

    def __init__(self, stage: Stage) -> None:
        self.name = stage.built.graph.name
        self._stage = stage
        self._marshal = Marshal()
        self._inputs = [_Slot(stage.context, port) for port in stage.built.inputs]
        self._outputs = [_Slot(stage.context, port) for port in stage.built.outputs]
        self._read = self._structures(self._inputs)
        self._written = self._structures(self._outputs)

    def bind(self, values: Sequence[BoundTensor | None], *, inputs: int) -> None:
        """Tell where the values are; the first ``inputs`` of them come from outside."""
        for slot, tensor, number in zip(self._inputs, self._read, self._stage.reads, strict=True):
            target = _present(values[number])
            slot.bind(tensor, target)
            if number < inputs:
                require_input(slot.port, target)
        for slot, tensor, number in zip(self._outputs, self._written, self._stage.writes, strict=True):
            slot.bind(tensor, _present(values[number]))

    def check(self, values: Sequence[BoundTensor | None], *, outside: int) -> None:
        """Look at what the graph wrote; the first ``outside`` of the values are the subgraph's own."""
        for slot, number in zip(self._outputs, self._stage.writes, strict=True):
            if number < outside:
                require_output(slot.port, _present(values[number]))

    def execute(self, *, queued: bool, profile: QnnProfile | None = None) -> None:
        """Run to completion, through the library's own queue if it has one and ``queued`` says so."""
        graph = self._stage.built.graph
        handle = None if profile is None else profile.handle
        if queued and graph.has_queue:
            graph.execute_queued(self._read, self._written, handle)
        else:
            graph.execute(self._read, self._written, handle)

    def execute_profiled(self, bindings: Bindings, compiled: HexagonSubgraph, *, queued: bool) -> None:
        """The same, and tell what QNN measured."""
        assert bindings.profile is not None
        profile = QnnProfile(self._stage.context.device, compiled.facilities.profiling)
        try:
            start = time.perf_counter_ns()
            self.execute(queued=queued, profile=profile)
            end = time.perf_counter_ns()
            events = profile.events()
        finally:
            profile.close()
        for step in steps(events, self.name, start, end):
            bindings.profile(step.name, compiled.source_map.get(step.name, ()), step.start_ns, step.end_ns)

    def _structures(self, slots: Sequence[_Slot]) -> c.Array[Tensor]:
        tensors = (self._marshal.tensor(slot.port.tensor, number=slot.port.number) for slot in slots)
        return (Tensor * len(slots))(*tensors)


class _Slot:
    """A tensor of a graph and the memory it was told to be in."""

    __slots__ = ("_address", "_block", "_context", "port")

    def __init__(self, context: QnnContext, port: Port) -> None:
        self._context = context
        self.port = port
        self._address = 0
        self._block: SharedBlock | None = None

    def bind(self, tensor: Tensor, target: BoundTensor) -> None:
        address, handle = target.address, target.buffer.handle
        block = handle if type(handle) is SharedBlock else None
        if address == self._address and block is self._block:
            return
        v1 = tensor.any.v1
        registered = None
        if block is not None:
            registered = self._context.register(block, address - block.address, self.port.tensor)
        if registered is None:
            v1.memory_type = MEMORY_RAW
            v1.buffer.data = address
            v1.buffer.size = target.dtype.nbytes(prod(target.shape))
        else:
            v1.memory_type = MEMORY_HANDLE
            v1.buffer.data = registered
            v1.buffer.size = 0
        self._address, self._block = address, block


def _present(target: BoundTensor | None) -> BoundTensor:
    if target is None:
        raise UnsupportedError("QNN compiles fixed shapes, every output must be bound")
    return target
