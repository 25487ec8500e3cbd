"""Runs a graph on one open backend, through nothing but the contract: compile, allocate, transfer, run, read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, GraphView
from mace_core.operators import resolve
from mace_core.provider import (
    Allocator,
    Backend,
    Bindings,
    BoundTensor,
    Buffer,
    CompiledSubgraph,
    DataTransfer,
    Event,
    Execution,
    HostAllocator,
    Stream,
)
from mace_core.tensor import DType, MemoryKind, TensorType

Array = npt.NDArray[Any]

ALIGNMENT_BYTES = 64
ADDRESSABLE = (MemoryKind.HOST, MemoryKind.PINNED)


def view_of(graph: Graph, feeds: Mapping[str, Array]) -> GraphView:
    """The whole graph as one view under the shapes of ``feeds``."""
    types = {
        value: TensorType(DType.from_numpy(feeds[value.name].dtype), feeds[value.name].shape) for value in graph.inputs
    }
    resolution = resolve(graph, types)
    return GraphView(
        graph, graph.nodes, graph.inputs, graph.outputs, resolution.types, resolution.known, name=graph.name
    )


@dataclass(eq=False)
class BoundRun:
    """Bindings of one execution with everything they own."""

    backend: Backend
    bindings: Bindings
    owned: list[tuple[Allocator, Buffer]]

    def outputs(self) -> list[Array | None]:
        """The outputs as host arrays; None for those whose memory the run has not filled."""
        return [None if bound is None else _read(self.backend, bound) for bound in self.bindings.outputs]

    def fill_outputs(self, byte: int) -> None:
        """Overwrite every output."""
        for bound in self.bindings.outputs:
            if bound is not None:
                nbytes = bound.nbytes
                write_bytes(self.backend, bound.buffer, bound.offset, np.full(nbytes, byte, np.uint8))

    def free(self) -> None:
        for allocator, buffer in self.owned:
            allocator.free(buffer)
        self.owned.clear()


def bind(backend: Backend, view: GraphView, compiled: CompiledSubgraph, feeds: Mapping[str, Array]) -> BoundRun:
    """Allocate and fill inputs, outputs and workspace in the backend's own memory."""
    allocator = backend.allocators()[0]
    owned: list[tuple[Allocator, Buffer]] = []

    def allocate(nbytes: int) -> Buffer:
        buffer = allocator.allocate(max(nbytes, 1))
        owned.append((allocator, buffer))
        return buffer

    inputs = []
    for value in view.inputs:
        array = np.ascontiguousarray(feeds[value.name]).reshape(feeds[value.name].shape)
        bound = BoundTensor(DType.from_numpy(array.dtype), array.shape, allocate(array.nbytes))
        _write(backend, bound, array)
        inputs.append(bound)
    outputs: list[BoundTensor | None] = []
    for value in view.outputs:
        found = view.tensor_type(value)
        if found is None or not found.is_concrete:
            raise ValueError(f"the shape of '{value.name}' is not known; the kit's cases have fixed shapes")
        outputs.append(BoundTensor(found.dtype, found.concrete_shape, allocate(found.nbytes)))
    workspace = None
    if compiled.workspace_bytes:
        workspace = BoundTensor(DType.UINT8, (compiled.workspace_bytes,), allocate(compiled.workspace_bytes))
    return BoundRun(backend, Bindings(inputs, outputs, workspace), owned)


@dataclass(eq=False)
class CrowdedRun(BoundRun):
    """Bindings whose tensors lie in one buffer, with a known pattern between and around them.

    Attributes:
        before: what the buffer held when everything was bound.
        places: what lies where, in bytes of the buffer: (name, begin, end); outputs are not among them.
    """

    before: npt.NDArray[np.uint8]
    places: Sequence[tuple[str, int, int]]

    def changed(self) -> str:
        """What a run may not write to and did write to; "" where there is nothing."""
        (_, buffer), *_ = self.owned
        now = read_bytes(self.backend, buffer, 0, self.before.size)
        for name, begin, end in self.places:
            if not np.array_equal(now[begin:end], self.before[begin:end]):
                return name
        return ""


@contextmanager
def crowded(
    backend: Backend,
    view: GraphView,
    compiled: CompiledSubgraph,
    feeds: Mapping[str, Array],
    *,
    is_skewed: bool,
) -> Iterator[CrowdedRun]:
    """Bindings in one buffer: at multiples of 64 bytes, or, where ``is_skewed``, one element beyond."""
    allocator = backend.allocators()[0]
    arrays = [np.ascontiguousarray(feeds[value.name]) for value in view.inputs]
    kinds = [(DType.from_numpy(array.dtype), feeds[v.name].shape) for array, v in zip(arrays, view.inputs, strict=True)]
    for value in view.outputs:
        found = view.tensor_type(value)
        if found is None or not found.is_concrete:
            raise ValueError(f"the shape of '{value.name}' is not known; the kit's cases have fixed shapes")
        kinds.append((found.dtype, found.concrete_shape))
    offsets, sizes, end = [], [], 0
    for dtype, shape in kinds:
        begin = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES + ALIGNMENT_BYTES
        offsets.append(begin + (max(dtype.nbytes(1), 1) if is_skewed else 0))
        sizes.append(dtype.nbytes(int(np.prod(shape, dtype=np.int64))))
        end = offsets[-1] + sizes[-1]
    buffer = allocator.allocate(end + 2 * ALIGNMENT_BYTES)
    owned = [(allocator, buffer)]
    content = np.resize(np.arange(251, dtype=np.uint8), end + 2 * ALIGNMENT_BYTES)
    places, at = [], 0
    for index, (offset, size) in enumerate(zip(offsets, sizes, strict=True)):
        is_input = index < len(arrays)
        places.append((f"bytes between its tensors (before {'input' if is_input else 'output'} {index})", at, offset))
        if is_input:
            content[offset : offset + size] = arrays[index].reshape(-1).view(np.uint8)
            places.append((f"its input {index}", offset, offset + size))
        at = offset + size
    places.append(("bytes behind its last output", at, content.size))
    write_bytes(backend, buffer, 0, content)
    bound = [BoundTensor(dtype, shape, buffer, offset) for (dtype, shape), offset in zip(kinds, offsets, strict=True)]
    workspace = None
    if compiled.workspace_bytes:
        owned.append((allocator, allocator.allocate(compiled.workspace_bytes)))
        workspace = BoundTensor(DType.UINT8, (compiled.workspace_bytes,), owned[-1][1])
    bindings = Bindings(bound[: len(arrays)], list(bound[len(arrays) :]), workspace)
    run = CrowdedRun(backend, bindings, owned, content, places)
    try:
        yield run
    finally:
        run.free()


def run_once(
    backend: Backend, view: GraphView, compiled: CompiledSubgraph, feeds: Mapping[str, Array]
) -> dict[str, Array]:
    """One run with an execution of its own; everything is freed afterwards."""
    bound = bind(backend, view, compiled, feeds)
    execution = compiled.new_execution()
    try:
        execution.run(bound.bindings)
        return _named(view, bound)
    finally:
        execution.close()
        bound.free()


def run_enqueued(
    backend: Backend, view: GraphView, compiled: CompiledSubgraph, feeds: Sequence[Mapping[str, Array]], stream: Stream
) -> list[dict[str, Array]]:
    """One run for each of ``feeds``, all in the queue before the first is waited for."""
    runs = [(bind(backend, view, compiled, each), compiled.new_execution()) for each in feeds]
    try:
        events = [execution.enqueue(stream, bound.bindings, ()) for bound, execution in runs]
        for event in reversed(events):
            event.wait()
        return [_named(view, bound) for bound, _ in runs]
    finally:
        _release(runs)


def run_chained(
    backend: Backend,
    view: GraphView,
    compiled: CompiledSubgraph,
    feeds: Mapping[str, Array],
    streams: Sequence[Stream],
    count: int,
) -> list[Array]:
    """So many runs of a graph of one input and one output, each fed with the memory that the one before it writes.

    They take turns over the queues; one in another queue than its predecessor waits for the predecessor's event.
    """
    empty = {name: np.zeros_like(array) for name, array in feeds.items()}
    runs = [
        (bind(backend, view, compiled, empty if step else feeds), compiled.new_execution()) for step in range(count)
    ]
    try:
        for (before, _), (after, _) in pairwise(runs):
            (source,) = before.bindings.outputs
            if source is None:
                raise ValueError("the shape of the output is not known; the kit's cases have fixed shapes")
            _write(backend, source, np.zeros(source.shape, source.dtype.numpy))
            after.bindings.inputs = [source]
        events: list[Event] = []
        for step, (bound, execution) in enumerate(runs):
            wait = events[-1:] if len(streams) > 1 else []
            events.append(execution.enqueue(streams[step % len(streams)], bound.bindings, wait))
        for event in reversed(events):
            event.wait()
        return [array for bound, _ in runs for array in bound.outputs() if array is not None]
    finally:
        _release(runs)


def _release(runs: Sequence[tuple[BoundRun, Execution]]) -> None:
    for bound, execution in runs:
        execution.close()
        bound.free()


def _named(view: GraphView, bound: BoundRun) -> dict[str, Array]:
    return {value.name: array for value, array in zip(view.outputs, bound.outputs(), strict=True) if array is not None}


def _write(backend: Backend, bound: BoundTensor, array: Array) -> None:
    write_bytes(backend, bound.buffer, bound.offset, array.reshape(-1).view(np.uint8))


def _read(backend: Backend, bound: BoundTensor) -> Array:
    flat = read_bytes(backend, bound.buffer, bound.offset, bound.nbytes)
    return flat.view(bound.dtype.numpy).reshape(bound.shape)


def write_bytes(backend: Backend, buffer: Buffer, offset: int, flat: npt.NDArray[np.uint8]) -> None:
    """Write to a buffer of the backend, wherever it is."""
    if buffer.memory in ADDRESSABLE:
        buffer.host_bytes()[offset : offset + flat.size] = flat
    elif flat.size:
        host = HostAllocator().allocate(flat.size)
        host.host_bytes()[:] = flat
        _transfer(backend).to_device(host, buffer, flat.size, target_offset=offset)


def read_bytes(backend: Backend, buffer: Buffer, offset: int, nbytes: int) -> npt.NDArray[np.uint8]:
    """A copy of bytes of a buffer of the backend, wherever it is."""
    if buffer.memory in ADDRESSABLE:
        return buffer.host_bytes()[offset : offset + nbytes].copy()
    host = HostAllocator().allocate(nbytes)
    if nbytes:
        _transfer(backend).to_host(buffer, host, nbytes, source_offset=offset)
    return host.host_bytes().copy()


def _transfer(backend: Backend) -> DataTransfer:
    transfer = backend.transfer()
    if transfer is None:
        raise AssertionError("the backend has memory of its own but offers no transfer")
    return transfer
