"""The open CPU: claims what has a lowering, lowers subgraphs to native plans, stores and restores them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mace_core.errors import UnsupportedError
from mace_core.graph.view import GraphView
from mace_core.native.kernel import build_kernels, load_kernels, load_packed, pack_kernels
from mace_core.native.machine import build_id
from mace_core.native.pool import ThreadPool, release_shared, shared_pool
from mace_core.native.source import KernelSource
from mace_core.provider.backend import Backend, Capability, Claim, CompiledSubgraph, Rejection, ShapeSupport
from mace_core.provider.device import Device
from mace_core.provider.poison import poison_byte
from mace_core.provider.weights import weight_files
from mace_cpu.plan import stored
from mace_cpu.plan.assembly import GATE
from mace_cpu.plan.subgraph import CpuSubgraph
from mace_cpu.shared.precision import choose_byte_tiles, choose_instructions, unit_of
from mace_cpu.workers import Workers

if TYPE_CHECKING:
    from mace_cpu.shared.program.program import Program


class CpuBackend(Backend):
    """One backend per session and option set; kernels and threads are shared by the process.

    The lowerings are imported when they are first asked: restoring what was compiled before needs none of them.
    """

    shape_support = ShapeSupport.SYMBOLIC
    compiles_per_shape = False

    def __init__(
        self,
        device: Device,
        *,
        workers: Workers,
        features: str | None = None,
        winograd: bool = True,
        precision: str = "float32",
        integers: bool = True,
        target: str = "",
    ) -> None:
        """``target``: a name of `named_target`: what is compiled is for libraries, and nothing runs."""
        self.device = device
        self.foreign = target
        self.notes = workers.notes
        self.threads = workers.threads
        self.winograd = winograd
        self.integers = integers
        self.target, self.pair_unit = choose_instructions(features, "float32" if target else precision)
        self.byte_tiles = choose_byte_tiles(features, self.target)
        self.pool: ThreadPool | None = None
        if target:
            from mace_core.native.named_targets import named_target

            # tiles have to be asked for by each process, which a library does not do for the program around it
            self.target, self.byte_tiles = named_target(target).target, None
            self.pair_unit = unit_of(self.target, target, precision)
        else:
            self.pool = shared_pool(workers.threads, workers.processors)
        self._sources: dict[str, KernelSource] = {}

    def capability(self, view: GraphView) -> Capability:
        from mace_cpu.shared.registry import LOWERINGS

        claims: list[Claim] = []
        rejections: list[Rejection] = []
        for node in view.nodes:
            lowering = LOWERINGS.find(node.domain, node.op_type)
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
        from mace_cpu.shared.program.assemble import assemble

        programs = [self._lower(view) for view in subgraphs]
        steps = [step for program in programs for step in program.steps.emitted]
        kernels = [kernel for step in steps for kernel in (step.kernel, *(called for _, called in step.calls))]
        sources = {kernel.symbol: kernel for kernel in kernels if kernel.symbol != GATE}
        if self.foreign:
            from mace_cpu.plan.program import ForeignSubgraph

            objects = build_kernels(list(sources.values()), self.target)
            return [ForeignSubgraph(assemble(program), objects, self.target, self.foreign) for program in programs]
        addresses = load_kernels(list(sources.values()), self.target)
        self._sources.update(sources)
        device = self.device.qualified_name
        assert self.pool is not None
        compiled: list[CompiledSubgraph] = []
        for program, view in zip(programs, subgraphs, strict=True):
            one = CpuSubgraph(assemble(program), addresses, self.pool, self.threads, device)
            one.consumed_constants = _constants_of(view)
            compiled.append(one)
        return compiled

    def measure_peak(self, seconds: float) -> float | None:
        if self.foreign:
            return None
        from mace_core.native.peak import measure_peak

        return measure_peak(self.threads, seconds, target=self.target, pool=self.pool)

    def close(self) -> None:
        """Let go of the threads; they end with the last session that holds them."""
        pool, self.pool = self.pool, None
        if pool is not None:
            release_shared(pool)

    def _lower(self, view: GraphView) -> Program:
        from mace_cpu.shared.parts.facts import Settings
        from mace_cpu.shared.registry import lower

        settings = Settings(self.target, self.threads, self.winograd, self.pair_unit, self.integers, self.byte_tiles)
        program = lower(view, settings)
        byte = poison_byte()
        if byte is not None:
            from mace_cpu.memory_checks.poisoned import add_poison

            add_poison(program, byte)
        return program

    # --- stored form ----------------------------------------------------------------------------------------------

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        parts = self.serialize_parts(compiled)
        return None if parts is None else b"".join(parts)

    def serialize_parts(self, compiled: Sequence[CompiledSubgraph]) -> Sequence[bytes | memoryview] | None:
        if self.foreign:
            return None  # it is for libraries, which sessions do not read
        assemblies = [one.assembly for one in compiled if isinstance(one, CpuSubgraph)]
        symbols = {symbol for assembly in assemblies for symbol in assembly.symbols}
        if not symbols <= self._sources.keys() or any(one.constants.block_places is None for one in assemblies):
            return None  # restored, not compiled: it is stored already
        kernels = pack_kernels([self._sources[symbol] for symbol in sorted(symbols)], self.target)
        return None if kernels is None else stored.dump(assemblies, kernels, weight_files())

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        return self.deserialize_view(memoryview(blob), subgraphs)

    def deserialize_view(self, blob: memoryview, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        assemblies, kernels = stored.load(blob, weight_files(), [view.trace for view in subgraphs])
        for assembly, view in zip(assemblies, subgraphs, strict=True):
            names = tuple(v.name for v in view.inputs), tuple(v.name for v in view.outputs)
            if names != (assembly.inputs, assembly.outputs):
                raise UnsupportedError(f"what is stored has other inputs and outputs than '{view.name}'")
            symbols = 0 if view.trace is None else view.trace.symbols
            if assembly.sizes is not None and assembly.sizes.program.symbols != symbols:
                raise UnsupportedError(f"what is stored depends on other sizes than '{view.name}'")
        addresses = load_packed(kernels)
        device = self.device.qualified_name
        assert self.pool is not None
        return [CpuSubgraph(assembly, addresses, self.pool, self.threads, device) for assembly in assemblies]

    def compatibility_key(self) -> str:
        byte = poison_byte()
        poison = "" if byte is None else f" poison={byte:02x}"
        unit = "float32" if self.pair_unit is None else self.pair_unit.value
        tiles = "vectors" if self.byte_tiles is None else self.byte_tiles.value
        return (
            f"{build_id()} {plugin_build_id()} {self.target.key} {unit} threads={self.threads} winograd={self.winograd}"
            f" integers={self.integers} {tiles}{poison}"
        )


def _constants_of(view: GraphView) -> frozenset[str]:
    """The constants that nodes read: the program has all of them in memory of its own."""
    read = (value for node in view.nodes for value in node.inputs)
    return frozenset(value.name for value in read if value is not None and value.constant is not None)


def plugin_build_id() -> str:
    """As ``mace_core.caching.build_id`` for this package."""
    from pathlib import Path

    return build_id(Path(__file__).parent)
