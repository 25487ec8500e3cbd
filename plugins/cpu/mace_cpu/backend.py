"""The open CPU: claims what has a lowering, lowers subgraphs to native plans, runs them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ProviderError
from mace_core.graph import GraphView
from mace_core.native.kernel import load_kernels
from mace_core.native.plan import NativePlan, PlanStep
from mace_core.native.pool import shared_pool
from mace_core.native.target import host_target
from mace_core.provider import (
    Backend,
    Bindings,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    Execution,
    Rejection,
    ShapeSupport,
)
from mace_core.scheduler.memory import Lifetime, plan_arena
from mace_cpu.lowering import find_lowering, load_all
from mace_cpu.lowering.bands import join_bands
from mace_cpu.program import ALIGNMENT_BYTES, STATUS_WORDS, Buf, Place, Program, Unsized

ARENA_SLOT, CONSTANT_SLOT, FIRST_INPUT_SLOT = 0, 1, 2


class CpuBackend(Backend):
    """One backend per session and option set; kernels and threads are shared by the process."""

    shape_support = ShapeSupport.STATIC
    compiles_per_shape = False

    def __init__(self, device: Device, *, threads: int, features: str | None, winograd: bool = True) -> None:
        load_all()
        self.device = device
        self.threads = threads
        self.target = host_target(features)
        self.winograd = winograd

    def capability(self, view: GraphView) -> Capability:
        claims: list[Claim] = []
        rejections: list[Rejection] = []
        for node in view.nodes:
            lowering = find_lowering(node.domain, node.op_type)
            if lowering is None:
                reason: str | None = f"the cpu provider has no kernel for {node.qualified_op}"
            else:
                reason = lowering.check(view, node)
            if reason is None:
                claims.append(Claim((node,)))
            else:
                rejections.append(Rejection(node, reason))
        return Capability(claims, rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        programs = [self._lower(view) for view in subgraphs]
        steps = [step for program in programs for step in program.steps]
        kernels = [kernel for step in steps for kernel in (step.kernel, *(called for _, called in step.calls))]
        sources = {kernel.symbol: kernel for kernel in kernels}
        addresses = load_kernels(list(sources.values()), self.target)
        device = self.device.qualified_name
        return [CpuSubgraph(program, addresses, self.threads, device) for program in programs]

    def _lower(self, view: GraphView) -> Program:
        program = Program(view, self.target, self.threads, self.winograd)
        for node in view.nodes:
            if node in program.done:
                continue
            lowering = find_lowering(node.domain, node.op_type)
            if lowering is None:
                raise ValueError(f"node '{node.name}' ({node.op_type}) was never claimed")
            program.begin(node)
            program.done.add(node)
            lowering.lower(program, node)
        program.finish()
        join_bands(program)
        return program


class CpuSubgraph(CompiledSubgraph):
    """A native plan, its constants in one aligned block, and the size of its arena."""

    def __init__(self, program: Program, addresses: dict[str, int], threads: int, device: str) -> None:
        self.source_map = {step.name: step.source for step in program.steps}
        self.workspace_bytes = _plan_buffers(program)
        self._constants, self._constants_address = _constant_block(program)
        self._inputs = len(program.view.inputs)
        self.faults = tuple(program.faults)
        self.unsized = tuple(program.unsized)
        self.dim_words = program.dim_words
        self.pool = shared_pool(threads)
        self.threads = threads
        self.device = device
        steps, words, relocations = _assemble(program, addresses)
        self._step_info = [(step.name, step.source) for step in program.steps]
        self.plan = NativePlan(steps, words, relocations)

    def new_execution(self) -> Execution:
        return CpuExecution(self)

    def bases(self, bindings: Bindings) -> list[int]:
        """The address per slot: arena, constants, inputs, outputs (and the words that an execution adds)."""
        workspace = bindings.workspace.address if bindings.workspace is not None else 0
        bases = [workspace, self._constants_address]
        bases.extend(tensor.address for tensor in bindings.inputs)
        for tensor in bindings.outputs:
            # an output of unknown shape is computed in the arena and copied when its shape is known
            bases.append(0 if tensor is None else tensor.address)
        return bases


class CpuExecution(Execution):
    """Argument words of one request at a time."""

    def __init__(self, compiled: CpuSubgraph) -> None:
        self._compiled = compiled
        self._instance = compiled.plan.new_instance()
        self._status = np.zeros(len(compiled.faults) * STATUS_WORDS, np.int64)
        self._dims = np.zeros(compiled.dim_words, np.int64)
        self._own_words = [int(self._status.ctypes.data), int(self._dims.ctypes.data)]

    def run(self, bindings: Bindings) -> None:
        compiled = self._compiled
        profiling = bindings.profile is not None
        bases = [*compiled.bases(bindings), *self._own_words]
        # the plan counts the slots up to the last one that a step uses
        del bases[compiled.plan.slots :]
        self._instance.run(bases, pool=compiled.pool, cancel=bindings.cancel, profile=profiling)
        if compiled.faults and self._status.any():
            raise self._fault()
        for output in compiled.unsized:
            self._hand_over(output, bindings)
        if bindings.profile is not None:
            for index, start_ns, end_ns in self._instance.timings():
                name, source = compiled._step_info[index]
                bindings.profile(name, source, start_ns, end_ns)

    def _hand_over(self, output: Unsized, bindings: Bindings) -> None:
        """Copy an output whose shape is known now to memory of that shape."""
        assert bindings.allocate_output is not None and bindings.workspace is not None
        shape = tuple(int(dim) for dim in self._dims[output.first_word : output.first_word + output.rank])
        tensor = bindings.allocate_output(output.index, output.dtype, shape)
        nbytes = output.dtype.nbytes(math.prod(shape))
        if nbytes:
            ctypes.memmove(tensor.address, bindings.workspace.address + output.data.offset, nbytes)

    def _fault(self) -> ProviderError:
        """The first fault that a kernel reported; the status words are cleared."""
        flags = self._status.reshape(-1, STATUS_WORDS)
        index = int(flags[:, 0].argmax())
        fault, value = self._compiled.faults[index], int(flags[index, 1])
        self._status.fill(0)
        device = self._compiled.device
        message = f"node '{fault.node}' on {device}: {fault.message.format(value=value)}"
        return ProviderError(message, node=fault.node, device=device)


def _plan_buffers(program: Program) -> int:
    """Give every arena buffer its offset; returns the arena's size in bytes."""
    spans: dict[Buf, tuple[int, int]] = {}
    for index, step in enumerate(program.steps):
        for _, at in step.addresses:
            if at.buf.place is Place.ARENA:
                first, _ = spans.get(at.buf, (index, index))
                spans[at.buf] = first, index
    lifetimes = [Lifetime(first=first, last=last, nbytes=buf.nbytes) for buf, (first, last) in spans.items()]
    plan = plan_arena(lifetimes, alignment=ALIGNMENT_BYTES)
    for buf, offset in zip(spans, plan.offsets, strict=True):
        buf.offset = offset
    return plan.total_bytes


def _constant_block(program: Program) -> tuple[list[npt.NDArray[Any]], int]:
    """The arrays that own all constants, and the address that their buffers' offsets count from.

    Small constants are gathered in one block; packed weights stay where they are.
    """
    total = 0
    for buf, _ in program.constants:
        if not buf.in_place:
            buf.offset = total
            total += -(-buf.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    block = np.empty(total + ALIGNMENT_BYTES, np.uint8)
    start = -block.ctypes.data % ALIGNMENT_BYTES
    base = block.ctypes.data + start
    owners: list[npt.NDArray[Any]] = [block]
    for buf, data in program.constants:
        if buf.in_place:
            buf.offset = data.ctypes.data - base
            owners.append(data)
        else:
            block[start + buf.offset : start + buf.offset + buf.nbytes] = data.reshape(-1).view(np.uint8)
    return owners, base


def _assemble(
    program: Program, addresses: dict[str, int]
) -> tuple[list[PlanStep], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The plan's steps, its argument words, and (word, slot, offset) for each word that is an address."""
    slots = {
        Place.ARENA: ARENA_SLOT,
        Place.CONSTANT: CONSTANT_SLOT,
        Place.INPUT: FIRST_INPUT_SLOT,
        Place.OUTPUT: FIRST_INPUT_SLOT + len(program.view.inputs),
        Place.STATUS: FIRST_INPUT_SLOT + len(program.view.inputs) + len(program.view.outputs),
        Place.DIMS: FIRST_INPUT_SLOT + len(program.view.inputs) + len(program.view.outputs) + 1,
    }
    steps: list[PlanStep] = []
    words: list[int] = []
    relocations: list[tuple[int, int, int]] = []
    for step in program.steps:
        first = len(words)
        for index, at in step.addresses:
            base = at.buf.index if at.buf.place in (Place.INPUT, Place.OUTPUT) else 0
            relocations.append((first + index, slots[at.buf.place] + base, at.buf.offset + at.offset))
        words.extend(step.words)
        for index, called in step.calls:
            words[first + index] = addresses[called.symbol]
        steps.append(PlanStep(addresses[step.kernel.symbol], first, step.extent, step.chunks, step.name, step.source))
    return steps, np.array(words, np.int64), np.array(relocations, np.int64).reshape(-1, 3)
