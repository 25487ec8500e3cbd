"""An open HTP: says what it runs, compiles it into contexts, stores and restores those."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from mace_core.errors import ProviderBugError, UnsupportedError
from mace_core.graph import GraphView, Node
from mace_core.provider import (
    Allocator,
    Backend,
    Buckets,
    Capability,
    Claim,
    Compatibility,
    CompiledSubgraph,
    Device,
    HostAllocator,
    Rejection,
    ShapeSupport,
    Stream,
)
from mace_core.provider.worker_queue import WorkerQueue
from mace_hexagon import storage
from mace_hexagon.builder import build
from mace_hexagon.chain import Chain, split
from mace_hexagon.description import QOp
from mace_hexagon.execution import Facilities, HexagonSubgraph, Stage
from mace_hexagon.lowering.context import DeclinedError
from mace_hexagon.lowering.engine import Lowering
from mace_hexagon.lowering.packaged import Table, WithOpPackages
from mace_hexagon.options import PERFORMANCE, Options
from mace_hexagon.qnn.handles import GraphSettings, QnnContext, QnnDevice
from mace_hexagon.qnn.marshal import Marshal
from mace_hexagon.qnn.power import PowerVotes
from mace_hexagon.qnn.types import DataType
from mace_hexagon.targets import find_soc
from mace_hexagon.version import VERSION

_log = logging.getLogger("mace.hexagon")

_FLOATS = (DataType.FLOAT_32, DataType.FLOAT_16)
_MOVES = frozenset({"Quantize", "Dequantize", "Transpose", "Reshape"})


class HexagonBackend(Backend):
    """One open device of one SoC."""

    shape_support = ShapeSupport.STATIC

    def __init__(
        self,
        device: Device,
        qnn: QnnDevice,
        settings: GraphSettings,
        *,
        options: Options,
        floats: bool,
        allocator: Allocator | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """``floats``: the HTP has float arithmetic at all; ``allocator``: of memory that is shared with the HTP;
        ``notes``: what the device's user should know of how it was opened."""
        from mace_hexagon.lowering.table import LOWERINGS

        self.device = device
        self.buckets = Buckets.powers_of_two(options.largest_bucket) if options.largest_bucket else None
        self._qnn = qnn
        self._settings = settings
        self._floats = floats
        self._lowerings: Table = WithOpPackages(LOWERINGS) if options.op_packages else LOWERINGS
        self._packages = options.op_packages
        self._build_id = qnn.build_id()
        self._context_bytes = options.context_mb << 20
        power = PowerVotes(qnn.interface, options.performance) if device.can_execute else None
        self._facilities = Facilities(power, allocator or HostAllocator(), options.profiling)
        self.notes = (*notes, *self._about_power(options.performance))

    def capability(self, view: GraphView) -> Capability:
        outcome = Lowering(
            view, self._lowerings, self.check, claims_only=True, half=self._settings.half_precision
        ).run()
        claims = [Claim(cluster.nodes, atomic=True) for cluster in outcome.clusters]
        claims += [Claim((node,)) for node in dict.fromkeys((*outcome.single, *outcome.spare))]
        return Capability(claims, [Rejection(node, reason) for node, reason in outcome.declined.items()])

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        chains = [self._chain(view) for view in subgraphs]
        contexts: list[QnnContext] = []
        compiled: list[CompiledSubgraph] = []
        room = 0
        try:
            for number, (view, chain) in enumerate(zip(subgraphs, chains, strict=True)):
                stages = []
                for position, piece in enumerate(chain.pieces):
                    if not contexts or piece.nbytes > room:
                        contexts.append(self._qnn.create_context())
                        room = self._context_bytes
                    room -= piece.nbytes
                    name = f"graph{number}" if len(chain.pieces) == 1 else f"graph{number}.{position}"
                    built = build(contexts[-1], name, piece.ops, piece.inputs, piece.outputs, self._settings)
                    stages.append(Stage(contexts[-1], built, piece.reads, piece.writes))
                if len(stages) > 1:
                    _log.info("%s takes %d graphs: its weights exceed context_mb", view.name, len(stages))
                between = [tensor.nbytes for tensor in chain.crossing]
                compiled.append(self._subgraph(stages, between, _sources(view.nodes), _constants(view)))
        except BaseException:
            for item in compiled:
                item.close()
            raise
        finally:
            for context in contexts:
                context.release()
        return compiled

    def create_stream(self) -> Stream:
        return WorkerQueue(self.device.qualified_name)

    def allocators(self) -> Sequence[Allocator]:
        return (self._facilities.allocator,)

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        items = [item for item in compiled if isinstance(item, HexagonSubgraph)]
        return storage.pack(items) if items and len(items) == len(compiled) else None

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        stored, binaries = storage.unpack(blob)
        if len(stored) != len(subgraphs):
            raise UnsupportedError(f"the stored form has {len(stored)} subgraphs, {len(subgraphs)} are needed")
        contexts: list[QnnContext] = []
        compiled: list[CompiledSubgraph] = []
        try:
            contexts.extend(self._qnn.restore_context(binary) for binary in binaries)
            for item in stored:
                stages = [storage.stage(found, contexts) for found in item["stages"]]
                sources, constants = tuple(item["sources"]), frozenset(item["constants"])
                compiled.append(self._subgraph(stages, item["between"], sources, constants))
        except BaseException:
            for restored in compiled:
                restored.close()
            raise
        finally:
            for context in contexts:
                context.release()
        return compiled

    def compatibility_key(self) -> str:
        packages = "".join(f"; op package {package.digest}" for package in self._packages)
        return f"mace-hexagon {VERSION}; QNN {self._build_id}; {_chip(self.device)}; {self._settings}{packages}"

    def check_compatibility(self, key: str) -> Compatibility:
        own = self.compatibility_key()
        if key == own:
            return Compatibility.OPTIMAL
        if find_soc(self.device.id) is None and _without_chip(key) == _without_chip(own):
            return Compatibility.USABLE  # QNN itself refuses a context of a chip that this one cannot stand for
        return Compatibility.RECOMPILE

    @property
    def live_contexts(self) -> int:
        """QNN contexts that exist on this device."""
        return self._qnn.live_contexts

    def close(self) -> None:
        if self._facilities.power is not None:
            self._facilities.power.close()
        self._qnn.close()

    def _about_power(self, performance: str) -> Iterator[str]:
        power = self._facilities.power
        if power is None:
            return
        for refusal in power.refusals:
            yield f"performance={performance} is not kept on {self.device.qualified_name}: {refusal}"
        if performance != PERFORMANCE[0] and not power.refusals:
            effect = "; the emulation has no clocks that it could change" if self.device.is_virtual else ""
            yield f"{self.device.qualified_name} took the settings of performance={performance}{effect}"

    def _subgraph(
        self, stages: Sequence[Stage], between: Sequence[int], sources: tuple[str, ...], constants: frozenset[str]
    ) -> HexagonSubgraph:
        for stage in stages:
            stage.context.retain()
        return HexagonSubgraph(stages, between, sources, constants, self._facilities)

    def _chain(self, view: GraphView) -> Chain:
        lowering = self._lower(view)
        half = self._settings.half_precision
        return split(lowering.ops, lowering.inputs, lowering.outputs, self._context_bytes, half_precision=half)

    def _lower(self, view: GraphView) -> Lowering:
        lowering = Lowering(view, self._lowerings, self.check, half=self._settings.half_precision)
        try:
            outcome = lowering.run()
        except DeclinedError as error:
            raise UnsupportedError(f"{view.name}: {error}", device=self.device.qualified_name) from None
        for node, reason in outcome.declined.items():
            raise UnsupportedError(
                f"node '{node.name}' ({node.qualified_op}) was claimed, but not in this subgraph: {reason}",
                node=node.name,
                device=self.device.qualified_name,
            )
        if len(lowering.outputs) != len(view.outputs):
            raise ProviderBugError(f"{view.name}: {len(lowering.outputs)} of {len(view.outputs)} results were made")
        return lowering

    def check(self, op: QOp) -> str | None:
        """Why this HTP does not take an operation; None if it does."""
        uses_floats = any(tensor.data_type in _FLOATS for tensor in (*op.inputs, *op.outputs))
        if uses_floats and not self._floats and op.type not in _MOVES:
            return "this HTP computes with quantized numbers only; quantize the model"
        marshal = Marshal()
        return self._qnn.validate(marshal.op(op))


def _chip(device: Device) -> str:
    """What a context depends on of a chip: an emulated architecture is the chip that stands for it."""
    soc = find_soc(device.id)
    return "chip of this machine" if soc is None else f"chip {soc.number} (HTP v{soc.arch})"


def _without_chip(key: str) -> list[str]:
    return [word for word in key.split("; ") if not word.startswith("chip ")]


def _sources(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in node.source))


def _constants(view: GraphView) -> frozenset[str]:
    return frozenset(
        value.name
        for node in view.nodes
        for value in node.inputs
        if value is not None and view.constant(value) is not None
    )
