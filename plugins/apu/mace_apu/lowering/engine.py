"""Turns the nodes of a view into a Neuron network, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mace_apu.description import Call, Network, Operand
from mace_apu.lowering.context import DeclinedError, Lower, NodeContext
from mace_apu.lowering.patterns import Pattern, find_patterns
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.values import Values
from mace_apu.lowering.winograd import Winograd
from mace_core.graph import GraphView, Node, Value, node_encoding
from mace_core.graph.clusters import Cluster, find_clusters

Version = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Claimed:
    """Nodes that some operations stand for.

    Attributes:
        nodes: in topological order.
        calls: none where nothing is left to compute.
        atomic: whether the nodes can only be taken together.
    """

    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    atomic: bool


@dataclass
class Lowered:
    """What became of a view.

    Attributes:
        network: what is left to run. Values of int64 are INT32 operands: whoever binds them converts at the borders.
        claims: the nodes that it stands for; a node may be in two.
        declined: the others, with reasons.
        notes: by name of a node, how it is computed, where there was a choice.
    """

    network: Network = field(default_factory=Network)
    claims: list[Claimed] = field(default_factory=list)
    declined: dict[Node, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def lower(
    view: GraphView,
    version: Version,
    *,
    float16: bool = False,
    claims_only: bool = False,
    winograd: Winograd | None = None,
) -> Lowered:
    """Translate a view for a library of ``version``.

    Args:
        view: the nodes.
        version: (major, minor, patch) of the library; operations that it does not have yet are not used.
        float16: whether float32 will be computed in float16, so that constants must be in its range.
        claims_only: for a question what can run: results of declined nodes become inputs, and what declined nodes read
            becomes outputs. Otherwise inputs and outputs are those of the view, as long as nothing is declined.
        winograd: what is known about that extension of the library; without it, convolutions are direct.
    """
    return Lowering(view, version, float16=float16, claims_only=claims_only, winograd=winograd).run()


class Lowering(Values):
    """One pass over a view."""

    def __init__(
        self, view: GraphView, version: Version, *, float16: bool, claims_only: bool, winograd: Winograd | None
    ) -> None:
        super().__init__(view, version, float16=float16, claims_only=claims_only)
        self.winograd = Winograd() if winograd is None else winograd
        self._done: set[Node] = set()
        self._folded: list[Node] = []
        self._lowered = Lowered(self.network)

    def run(self) -> Lowered:
        """Lower all nodes."""
        clusters, patterns = find_clusters(self.view), find_patterns(self.view)
        inner = {node for last, pattern in patterns.items() for node in pattern.nodes if node is not last}
        if not self._claims_only:
            self._bind_inputs()
        for node in self.view.nodes:
            if node in self._done or node in self._lowered.declined:
                continue
            if all(value is None or self.view.constant(value) is not None for value in node.outputs):
                self._claim((node,), ())
            elif not node.domain and node.op_type == "DequantizeLinear":
                self._defer(node)
            elif (cluster := clusters.get(node)) is not None and self._attempt(node, cluster) is None:
                self._done.update(cluster.nodes)
            elif node not in inner:
                self._lower(node, patterns.get(node))
        self._settle_outputs()
        self._settle_dequantizers()
        return self._lowered

    def mark_folded(self, node: Node) -> None:
        """``node`` was lowered together with the present one."""
        self._done.add(node)
        self._folded.append(node)

    def note(self, node: Node, text: str) -> None:
        """How ``node`` is computed."""
        self._lowered.notes[node.name] = text

    def _claim(self, nodes: tuple[Node, ...], calls: Sequence[Call], *, atomic: bool = False) -> None:
        self._lowered.claims.append(Claimed(nodes, tuple(calls), atomic))

    def _lower(self, node: Node, pattern: Pattern | None) -> None:
        """Lower a node, or the pattern that ends with it: as one if that can be, else in parts."""
        if pattern is not None and self._attempt(node, None, pattern) is None:
            self._done.update(pattern.nodes)
            return
        for part in pattern.nodes if pattern is not None else (node,):
            if part in self._done:
                continue
            reason = self._attempt(part, None)
            if reason is not None:
                self._lowered.declined[part] = reason

    def _attempt(self, node: Node, cluster: Cluster | None, pattern: Pattern | None = None) -> str | None:
        """Lower a node (or the cluster or pattern around it); on failure all is as before and the reason returned."""
        state, done = self.save(), set(self._done)
        self._folded = []
        lower: Lower | None = pattern.lower if pattern is not None else None
        if lower is None and not node.domain:
            lower = LOWERINGS.find("", node.op_type)
        if lower is None:
            return f"the APU provider has no translation of {node.qualified_op} to Neuron"
        self.source = node.source
        try:
            lower(NodeContext(self, node, cluster))
        except DeclinedError as error:
            self.restore(state)
            self._done = done
            return str(error)
        around = cluster if cluster is not None else pattern
        nodes = (node,) if around is None else around.nodes
        self._claim((*nodes, *self._folded), self.network.calls[state.calls :], atomic=cluster is not None)
        return None

    def _bind_inputs(self) -> None:
        for value in self.view.inputs:
            try:
                self.add_input(value)
            except DeclinedError as error:
                for node in self.view.users(value):
                    self._lowered.declined[node] = str(error)

    def _defer(self, node: Node) -> None:
        """A DequantizeLinear is emitted where its result is read as real numbers, if it is."""
        result = node.outputs[0]
        if node.inputs[0] is None or result is None or node_encoding(self.view, node) is None:
            self._lowered.declined[node] = "its scale or zero point is not constant"
        else:
            self.deferred[result] = node

    def _settle_dequantizers(self) -> None:
        used = {node for claim in self._lowered.claims for node in claim.nodes}
        for node in self.deferred.values():
            if node in self.materialized:
                self._claim((node,), self.materialized[node])
            elif node not in used:
                self._lowered.declined.setdefault(node, "none of the nodes that read it runs on this device")

    def _settle_outputs(self) -> None:
        """Give every result that is needed outside in its natural order; where that cannot be, its node is declined."""
        wanted = list(self.view.outputs)
        if self._claims_only:
            read = (value for node in self._lowered.declined for value in node.inputs if value is not None)
            wanted = list(dict.fromkeys([*wanted, *(value for value in read if value in self.located)]))
        for value in wanted:
            if self._claims_only and (value not in self.located and value not in self.deferred):
                continue
            state = self.save()
            try:
                self.network.outputs.append(self._output(value))
            except DeclinedError as error:
                self.restore(state)
                self._withdraw(value, str(error))

    def _withdraw(self, value: Value, reason: str) -> None:
        producer = value.producer
        if producer is None or producer not in self.nodes:
            return
        self._lowered.declined.setdefault(producer, reason)
        for claim in [claim for claim in self._lowered.claims if producer in claim.nodes]:
            self._lowered.claims.remove(claim)
            self._lowered.declined.update(dict.fromkeys(claim.nodes, reason))

    def _output(self, value: Value) -> Operand:
        operand = self.tensor(value)
        taken = any(operand is other for other in (*self.network.inputs, *self.network.outputs))
        if not taken and operand.data is None:
            return operand
        copy = self.like(operand, value.name, operand.shape)
        self.reshape(operand, copy)
        return copy
