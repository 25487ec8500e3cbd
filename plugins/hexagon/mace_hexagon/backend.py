"""An open HTP: says what it runs, compiles it into contexts, stores and restores those."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mace_core.errors import ProviderBugError, UnsupportedError
from mace_core.graph import GraphView, Node
from mace_core.provider import (
    Backend,
    Buckets,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    Rejection,
    ShapeSupport,
)
from mace_hexagon import storage
from mace_hexagon.builder import BuiltGraph, build
from mace_hexagon.description import QOp
from mace_hexagon.execution import HexagonSubgraph
from mace_hexagon.lowering.context import DeclinedError
from mace_hexagon.lowering.engine import Lowering
from mace_hexagon.options import PERFORMANCE
from mace_hexagon.qnn.handles import GraphSettings, QnnContext, QnnDevice
from mace_hexagon.qnn.marshal import Marshal
from mace_hexagon.qnn.power import PowerVotes
from mace_hexagon.qnn.types import DataType
from mace_hexagon.version import VERSION

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
        performance: str,
        floats: bool,
        largest_bucket: int = 0,
    ) -> None:
        """``performance``: a value of that option; ``floats``: the HTP has float arithmetic at all;
        ``largest_bucket``: the largest size that others are padded to, 0 for none."""
        from mace_hexagon.lowering.table import LOWERINGS

        self.device = device
        self.buckets = Buckets.powers_of_two(largest_bucket) if largest_bucket else None
        self._qnn = qnn
        self._settings = settings
        self._floats = floats
        self._lowerings = LOWERINGS
        self._build_id = qnn.build_id()
        self._power = PowerVotes(qnn.interface, performance) if device.can_execute else None
        self.notes = tuple(self._about_power(performance))

    def capability(self, view: GraphView) -> Capability:
        outcome = Lowering(view, self._lowerings, self.check, claims_only=True).run()
        claims = [Claim(cluster.nodes, atomic=True) for cluster in outcome.clusters]
        claims += [Claim((node,)) for node in dict.fromkeys((*outcome.single, *outcome.spare))]
        return Capability(claims, [Rejection(node, reason) for node, reason in outcome.declined.items()])

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        lowered = [self._lower(view) for view in subgraphs]
        context = self._qnn.create_context()
        compiled: list[CompiledSubgraph] = []
        try:
            for index, (view, lowering) in enumerate(zip(subgraphs, lowered, strict=True)):
                built = build(
                    context,
                    f"graph{index}",
                    lowering.ops,
                    lowering.inputs,
                    lowering.outputs,
                    self._settings,
                )
                compiled.append(self._subgraph(context, built, _sources(view.nodes), _constants(view)))
        except BaseException:
            for item in compiled:
                item.close()
            raise
        finally:
            context.release()
        return compiled

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        items = [item for item in compiled if isinstance(item, HexagonSubgraph)]
        contexts = {item.context for item in items}
        if len(items) != len(compiled) or len(contexts) != 1:
            return None
        return storage.pack(items, contexts.pop().binary())

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        graphs, binary = storage.unpack(blob)
        if len(graphs) != len(subgraphs):
            raise UnsupportedError(f"the stored context has {len(graphs)} graphs, {len(subgraphs)} are needed")
        context = self._qnn.restore_context(binary)
        compiled: list[CompiledSubgraph] = []
        try:
            for stored in graphs:
                graph = context.retrieve_graph(stored["name"])
                built = BuiltGraph(graph, storage.ports(stored["inputs"]), storage.ports(stored["outputs"]))
                compiled.append(
                    self._subgraph(context, built, tuple(stored["sources"]), frozenset(stored["constants"]))
                )
        except BaseException:
            for item in compiled:
                item.close()
            raise
        finally:
            context.release()
        return compiled

    def compatibility_key(self) -> str:
        return f"mace-hexagon {VERSION}; QNN {self._build_id}; {self.device.id}; {self._settings}"

    @property
    def live_contexts(self) -> int:
        """QNN contexts that exist on this device."""
        return self._qnn.live_contexts

    def close(self) -> None:
        if self._power is not None:
            self._power.close()
        self._qnn.close()

    def _about_power(self, performance: str) -> Iterator[str]:
        if self._power is None:
            return
        for refusal in self._power.refusals:
            yield f"performance={performance} is not kept on {self.device.qualified_name}: {refusal}"
        if performance != PERFORMANCE[0] and not self._power.refusals:
            effect = "; the emulation has no clocks that it could change" if self.device.is_virtual else ""
            yield f"{self.device.qualified_name} took the settings of performance={performance}{effect}"

    def _subgraph(
        self, context: QnnContext, built: BuiltGraph, sources: tuple[str, ...], constants: frozenset[str]
    ) -> HexagonSubgraph:
        return HexagonSubgraph(context.retain(), built, sources, constants, self._power)

    def _lower(self, view: GraphView) -> Lowering:
        lowering = Lowering(view, self._lowerings, self.check)
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


def _sources(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in node.source))


def _constants(view: GraphView) -> frozenset[str]:
    return frozenset(
        value.name
        for node in view.nodes
        for value in node.inputs
        if value is not None and view.constant(value) is not None
    )
