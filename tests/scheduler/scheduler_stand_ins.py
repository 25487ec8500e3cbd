"""Stand-ins for devices: backends that compute with the reference but keep memory of their own, queues, and faults.

The queue is lazy: what is enqueued runs only when somebody waits.  Device memory is full of junk until it is written.
So a missing wait or transfer shows as a wrong result.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mace_core.errors import ProviderError, UnsupportedError
from mace_core.graph import GraphView, Node
from mace_core.provider import (
    Allocator,
    ApiVersion,
    Backend,
    Bindings,
    BoundTensor,
    Buffer,
    Capability,
    Claim,
    CompiledSubgraph,
    Cost,
    DataTransfer,
    Device,
    DeviceKind,
    Event,
    Execution,
    ExecutionProvider,
    ForeignKind,
    ForeignMemory,
    HostAllocator,
    ProbeResult,
    Rejection,
    Stream,
)
from mace_core.provider.registry import Registry
from mace_core.scheduler.host.reference import ReferenceBackend
from mace_core.tensor import DType, MemoryKind

JUNK = 0xCD


class DeviceMemory(Allocator):
    """Memory that only `CountingTransfer` and the stand-in's kernels can reach."""

    memory = MemoryKind.DEVICE

    def __init__(self) -> None:
        self.alive = 0

    def allocate(self, nbytes: int) -> Buffer:
        self.alive += 1
        return Buffer(MemoryKind.DEVICE, nbytes, 0, np.full(nbytes, JUNK, np.uint8), "stand-in")

    def free(self, buffer: Buffer) -> None:
        assert buffer.handle is not None, "freed twice"
        self.alive -= 1
        buffer.handle = None


class PinnedMemory(HostAllocator):
    """Host memory that counts as the device's own."""

    memory = MemoryKind.PINNED

    def allocate(self, nbytes: int) -> Buffer:
        buffer = super().allocate(nbytes)
        buffer.memory = MemoryKind.PINNED
        buffer.host_bytes()[:] = JUNK
        return buffer


class CountingTransfer(DataTransfer):
    """Copies, and counts."""

    def __init__(self) -> None:
        self.uploads = self.downloads = 0

    def to_device(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        self.uploads += 1
        target.handle[target_offset : target_offset + nbytes] = source.host_bytes()[source_offset:][:nbytes]

    def to_host(
        self, source: Buffer, target: Buffer, nbytes: int, *, source_offset: int = 0, target_offset: int = 0
    ) -> None:
        self.downloads += 1
        target.host_bytes()[target_offset : target_offset + nbytes] = source.handle[source_offset:][:nbytes]


class LazyStream(Stream):
    """An in-order queue whose work is done when somebody waits for it."""

    def __init__(self) -> None:
        self.queue: list[LazyEvent] = []
        self.closed = False

    def synchronize(self) -> None:
        while self.queue:
            self.queue[-1].wait()

    def close(self) -> None:
        self.closed = True


class LazyEvent(Event):
    def __init__(self, stream: LazyStream, work: Callable[[], None]) -> None:
        self.stream = stream
        self.work = work
        stream.queue.append(self)

    def wait(self) -> None:
        while self in self.stream.queue:
            self.stream.queue.pop(0).work()

    @property
    def is_done(self) -> bool:
        return self not in self.stream.queue


class StandInExecution(Execution):
    def __init__(self, owner: StandInSubgraph) -> None:
        self.owner = owner
        self.inner = owner.inner.new_execution()
        owner.backend.executions += 1

    def run(self, bindings: Bindings) -> None:
        self.owner.backend.before_run()
        if bindings.workspace is not None:
            self._scribble(bindings.workspace)
        copies: list[tuple[BoundTensor, BoundTensor]] = []
        outputs: list[BoundTensor | None] = []
        for bound in bindings.outputs:
            outputs.append(None if bound is None else _host_twin(bound))
            if bound is not None and outputs[-1] is not bound:
                copies.append((outputs[-1], bound))  # type: ignore[arg-type]

        def allocate(index: int, dtype: DType, shape: tuple[int, ...]) -> BoundTensor:
            assert bindings.allocate_output is not None
            real = bindings.allocate_output(index, dtype, shape)
            twin = _host_twin(real)
            if twin is not real:
                copies.append((twin, real))
            return twin

        inputs = [_host_twin(bound, read=True) for bound in bindings.inputs]
        profile = bindings.profile if self.owner.backend.provider.reports_spans else None
        self.inner.run(Bindings(inputs, outputs, None, allocate, bindings.cancel, profile))
        for twin, real in copies:
            raw = twin.buffer.host_bytes()
            real.buffer.handle[real.offset : real.offset + raw.size] = raw

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> Event:
        assert isinstance(stream, LazyStream) and not stream.closed
        return LazyEvent(stream, lambda: self.run(bindings))

    @staticmethod
    def _scribble(workspace: BoundTensor) -> None:
        """Use the scratch memory, so that sharing it with live tensors shows."""
        size = workspace.shape[0]
        if workspace.buffer.memory is MemoryKind.DEVICE:
            workspace.buffer.handle[workspace.offset : workspace.offset + size] = JUNK
        else:
            workspace.buffer.host_bytes()[workspace.offset : workspace.offset + size] = JUNK

    def close(self) -> None:
        self.owner.backend.executions -= 1


def _host_twin(bound: BoundTensor, *, read: bool = False) -> BoundTensor:
    """The tensor itself where the host can address it, else a host copy of it."""
    if bound.buffer.memory is not MemoryKind.DEVICE:
        return bound
    nbytes = bound.dtype.nbytes(int(np.prod(bound.shape, dtype=np.int64)))
    buffer = HostAllocator().allocate(nbytes)
    if read:
        buffer.host_bytes()[:] = bound.buffer.handle[bound.offset : bound.offset + nbytes]
    return BoundTensor(bound.dtype, bound.shape, buffer)


class StandInSubgraph(CompiledSubgraph):
    workspace_bytes = 100

    def __init__(self, backend: StandInBackend, view: GraphView, inner: CompiledSubgraph) -> None:
        self.backend = backend
        self.names = [node.name for node in view.nodes]
        self.inner = inner
        backend.compiled_alive += 1

    def new_execution(self) -> Execution:
        return StandInExecution(self)

    def close(self) -> None:
        self.backend.compiled_alive -= 1


class StandInBackend(Backend):
    """What it does is decided by its provider's class attributes; what it did is told by its counters."""

    def __init__(self, provider: type[StandInProvider], device: Device) -> None:
        self.device = device
        self.provider = provider
        self.reference = ReferenceBackend()
        self.device_memory = DeviceMemory()
        self.counter = CountingTransfer()
        self.streams: list[LazyStream] = []
        self.executions = self.compiled_alive = self.compile_calls = self.runs = 0
        self.closed = False
        self.imported = 0

    def capability(self, view: GraphView) -> Capability:
        wanted = [node for node in view.nodes if self.provider.claims(node)]
        claims = [Claim(tuple(wanted), cost=self.provider.claim_cost)] if wanted else []
        rejections = [Rejection(n, f"{self.device.provider} has no {n.op_type}") for n in view.nodes if n not in wanted]
        return Capability(claims, rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        self.compile_calls += 1
        for view in subgraphs:
            for node in view.nodes:
                if self.provider.compile_fails(node):
                    raise UnsupportedError(f"{node.op_type} is too much for me", node=node.name)
        inner = self.reference.compile(subgraphs)
        return [StandInSubgraph(self, view, one) for view, one in zip(subgraphs, inner, strict=True)]

    def allocators(self) -> Sequence[Allocator]:
        match self.provider.memory:
            case MemoryKind.DEVICE:
                return (self.device_memory, HostAllocator())
            case MemoryKind.PINNED:
                return (PinnedMemory(), HostAllocator())
            case _:
                return (HostAllocator(),)

    def transfer(self) -> DataTransfer | None:
        return self.counter if self.provider.memory is MemoryKind.DEVICE else None

    @property
    def imports(self) -> frozenset[ForeignKind]:  # type: ignore[override]
        return self.provider.imports

    def import_memory(self, memory: ForeignMemory) -> Buffer | None:
        self.imported += 1
        owner = (ctypes.c_uint8 * memory.nbytes).from_address(memory.address)
        return Buffer(MemoryKind.DEVICE, memory.nbytes, 0, np.ctypeslib.as_array(owner), "stand-in")

    def release_memory(self, buffer: Buffer) -> None:
        self.imported -= 1

    def create_stream(self) -> Stream | None:
        if not self.provider.has_queue:
            return None
        self.streams.append(LazyStream())
        return self.streams[-1]

    def before_run(self) -> None:
        self.runs += 1
        if self.provider.faults:
            fault = self.provider.faults.pop(0)
            if fault is not None:
                raise fault

    def close(self) -> None:
        assert not self.closed, "closed twice"
        assert self.executions == 0 and self.compiled_alive == 0, "closed before what was made from it"
        self.closed = True


class StandInProvider(ExecutionProvider):
    """Subclass it with `make_provider`."""

    name: ClassVar[str] = "standin"
    vendor: ClassVar[str] = "tests"
    version: ClassVar[str] = "1"
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)
    options: ClassVar[Mapping[str, str]] = {"speed": "how fast"}

    memory: ClassVar[MemoryKind] = MemoryKind.HOST
    has_queue: ClassVar[bool] = False
    imports: ClassVar[frozenset[ForeignKind]] = frozenset()
    reports_spans: ClassVar[bool] = True
    faults: ClassVar[list[Exception | None]] = []
    opened: ClassVar[list[StandInBackend]] = []
    open_fault: ClassVar[Exception | None] = None
    is_virtual: ClassVar[bool] = False
    kind: ClassVar[DeviceKind] = DeviceKind.GPU
    claim_cost: ClassVar[Cost | None] = None

    @classmethod
    def claims(cls, node: Node) -> bool:
        return True

    @classmethod
    def compile_fails(cls, node: Node) -> bool:
        return False

    def probe(self) -> ProbeResult:
        device = Device(self.name, "0", self.kind, "stand-in", "tests", is_virtual=self.is_virtual)
        return ProbeResult(devices=(device,))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        if self.open_fault is not None:
            raise self.open_fault
        backend = StandInBackend(type(self), device)
        type(self).opened.append(backend)
        return backend


def make_provider(name: str, **attributes: Any) -> type[StandInProvider]:
    """A stand-in class of its own.  ``claims`` may be a set of op types, ``compile_fails`` too."""
    for key in ("claims", "compile_fails"):
        ops = attributes.get(key)
        if isinstance(ops, set | frozenset):
            attributes[key] = classmethod(lambda cls, node, ops=ops: node.op_type in ops)
    fields = {"name": name, "faults": [], "opened": [], **attributes}
    return type(f"{name.title()}Provider", (StandInProvider,), fields)


def registry_of(*providers: type[ExecutionProvider]) -> Registry:
    """A registry with these and the reference alone."""
    from mace_core.discovery.entry_points import Switches

    registry = Registry(Switches(allowed=frozenset({"nothing-installed"})))
    for provider in providers:
        registry.register(provider)
    return registry


__all__ = ["ProviderError", "StandInBackend", "StandInProvider", "make_provider", "registry_of"]
