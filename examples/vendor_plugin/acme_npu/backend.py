"""The open simulator: claims, compiles, stores and runs subgraphs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from acme_npu import __version__
from acme_npu.memory import DeviceMemory
from acme_npu.operators import OPERATORS, why_not
from acme_npu.program import Program, assemble
from acme_npu.queue import AcmeEvent, AcmeStream
from mace_core.errors import CancelledError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import (
    Allocator,
    Backend,
    Bindings,
    BoundTensor,
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
    imports = frozenset({ForeignKind.DMA_BUF})

    def __init__(self, device: Device, memory_bytes: int) -> None:
        self.device = device
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
        self.source_map = {command.name: (command.name,) for command in program.commands}
        self._weights: list[Buffer] = []
        self.weights: dict[int, npt.NDArray[np.float32]] = {}
        for register, array in program.constants.items():
            buffer = memory.allocate(array.nbytes)
            self._weights.append(buffer)
            memory.block(buffer)[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.weights[register] = memory.block(buffer).view(np.float32).reshape(array.shape)

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
        registers = dict(self._compiled.weights)
        for index, tensor in enumerate(bindings.inputs):
            registers[index] = self._array(tensor)
        for command in self._compiled.program.commands:
            if bindings.cancel.is_set:
                raise CancelledError(f"the run was cancelled before '{command.name}'")
            start = time.monotonic_ns()
            operands = [registers[register] for register in command.inputs]
            registers[command.output] = OPERATORS[command.operator](*operands)
            if bindings.profile is not None:
                bindings.profile(command.name, (command.name,), start, time.monotonic_ns())
        for register, bound in zip(self._compiled.program.outputs, bindings.outputs, strict=True):
            if bound is None:
                raise UnsupportedError("the ACME NPU compiles for fixed shapes, every output must be bound")
            self._array(bound)[...] = registers[register]

    def enqueue(self, stream: Stream, bindings: Bindings, wait: Sequence[Event]) -> AcmeEvent:
        if not isinstance(stream, AcmeStream):
            raise TypeError(f"a stream of another backend was given: {type(stream).__name__}")
        return stream.submit(lambda: self.run(bindings), wait)

    def _array(self, tensor: BoundTensor) -> npt.NDArray[np.float32]:
        count = int(np.prod(tensor.shape, dtype=np.int64))
        block = self._compiled.memory.block(tensor.buffer)
        return block[tensor.offset : tensor.offset + 4 * count].view(np.float32).reshape(tensor.shape)
