"""The open simulator: claims, compiles, stores and runs subgraphs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from acme_npu import __version__
from acme_npu.memory import DeviceMemory
from acme_npu.operators import OPERATORS, why_not
from acme_npu.program import Command, Program, assemble
from acme_npu.queue import AcmeEvent, AcmeStream
from mace_core.errors import CancelledError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import (
    Allocator,
    Backend,
    Bindings,
    BoundTensor,
    Buckets,
    Buffer,
    Capability,
    Claim,
    CompiledSubgraph,
    DataTransfer,
    Device,
    Event,
    Execution,
    ForeignKind,
    ForeignMemory,
    Rejection,
    ShapeSupport,
    Stream,
)


class AcmeBackend(Backend):
    """One open simulator with its memory."""

    shape_support = ShapeSupport.STATIC
    compiles_per_shape = True
    imports = frozenset({ForeignKind.DMA_BUF})

    def __init__(self, device: Device, memory_bytes: int, largest_bucket: int = 0) -> None:
        """``largest_bucket``: 0 to compile for each size as it comes."""
        self.device = device
        self.buckets = Buckets.powers_of_two(largest_bucket) if largest_bucket else None
        self.memory = DeviceMemory(device.qualified_name, memory_bytes)

    def capability(self, view: GraphView) -> Capability:
        claims, rejections = [], []
        for node in view.nodes:
            reason = why_not(view, node)
            if reason is None:
                claims.append(Claim((node,)))
            else:
                rejections.append(Rejection(node, reason))
        return Capability(claims, rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        return [AcmeSubgraph(assemble(view), self.memory) for view in subgraphs]

    def allocators(self) -> Sequence[Allocator]:
        return (self.memory,)

    def transfer(self) -> DataTransfer:
        return self.memory

    def import_memory(self, memory: ForeignMemory) -> Buffer:
        return self.memory.import_descriptor(memory)

    def release_memory(self, buffer: Buffer) -> None:
        self.memory.release(buffer)

    def create_stream(self) -> Stream:
        return AcmeStream(f"{self.device.qualified_name}-queue")

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes:
        blobs = [item.program.to_bytes() for item in compiled if isinstance(item, AcmeSubgraph)]
        return json.dumps([len(blob) for blob in blobs]).encode() + b"\n" + b"".join(blobs)

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        header, _, body = blob.partition(b"\n")
        sizes = json.loads(header)
        if len(sizes) != len(subgraphs):
            raise UnsupportedError(f"the blob holds {len(sizes)} subgraphs, {len(subgraphs)} are needed")
        ends = np.cumsum([0, *sizes]).tolist()
        return [AcmeSubgraph(Program.from_bytes(body[a:b]), self.memory) for a, b in pairwise(ends)]

    def compatibility_key(self) -> str:
        return f"acme-npu {__version__}"

    def close(self) -> None:
        self.memory.free_all()


class AcmeSubgraph(CompiledSubgraph):
    """A program with its weights in device memory."""

    def __init__(self, program: Program, memory: DeviceMemory) -> None:
        self.program = program
        self.memory = memory
        self.source_map = {command.name: command.source for command in program.commands}
        self._weights: list[Buffer] = []
        self.weights: dict[int, npt.NDArray[Any]] = {}
        try:
            for register, array in program.constants.items():
                buffer = memory.allocate(array.nbytes)
                self._weights.append(buffer)
                memory.block(buffer)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                self.weights[register] = memory.block(buffer).view(array.dtype).reshape(array.shape)
        except BaseException:
            self.close()
            raise

    def new_execution(self) -> Execution:
        return AcmeExecution(self)

    def close(self) -> None:
        self.weights.clear()
        for buffer in self._weights:
            self.memory.free(buffer)
        self._weights.clear()


class AcmeExecution(Execution):
    """Runs a program on bound device buffers."""

    def __init__(self, compiled: AcmeSubgraph) -> None:
        self._compiled = compiled

    def run(self, bindings: Bindings) -> None:
        program = self._compiled.program
        registers: dict[int, npt.NDArray[Any]] = dict(self._compiled.weights)
        for index, tensor in enumerate(bindings.inputs):
            registers[index] = self._array(tensor)
        spans = []
        for command in program.commands:
            if bindings.cancel.is_set:
                raise CancelledError(f"the run was cancelled before '{command.name}'")
            start = time.perf_counter_ns()
            registers.update(zip(command.outputs, computed(command, registers), strict=False))
            spans.append((command.name, command.source, start, time.perf_counter_ns()))
        for register, bound in zip(program.outputs, bindings.outputs, strict=True):
            if bound is None:
                raise UnsupportedError("the ACME NPU compiles for fixed shapes, every output must be bound")
            self._array(bound)[...] = registers[register]
        if bindings.profile is not None:  # somebody else's code, called when all is done
            for span in spans:
                bindings.profile(*span)

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> AcmeEvent:
        if not isinstance(stream, AcmeStream):
            raise TypeError(f"a stream of another backend was given: {type(stream).__name__}")
        return stream.submit(lambda: self.run(bindings), wait)

    def _array(self, tensor: BoundTensor) -> npt.NDArray[Any]:
        nbytes = tensor.dtype.nbytes(math.prod(tensor.shape))
        block = self._compiled.memory.block(tensor.buffer)
        return block[tensor.offset : tensor.offset + nbytes].view(tensor.dtype.numpy).reshape(tensor.shape)


def computed(command: Command, registers: Mapping[int, npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], ...]:
    """The results of one command."""
    found = OPERATORS[command.operator](*(registers[register] for register in command.inputs), **command.settings)
    results = found if isinstance(found, tuple) else (found,)
    if command.then is None:
        return results
    activation, settings = command.then
    applied = OPERATORS[activation](results[0], **settings)
    return applied if isinstance(applied, tuple) else (applied,)
