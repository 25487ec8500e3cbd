"""Constants: Constant nodes become initializers, and what depends on constants alone is computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from mace_core.graph import AttributeKind, Graph, Node, Value
from mace_core.operators.registry import is_random
from mace_core.optimizer.evaluate import ConstantFacts
from mace_core.optimizer.infra import GraphPass, PassContext, remove_nodes
from mace_core.tensor import DType, Tensor

logger = logging.getLogger("mace.optimizer")

Computation: TypeAlias = Callable[[Graph], Sequence[Tensor]]
"""Runs a graph that has no inputs, as a session would, and returns its outputs."""

LARGE_BYTES = 1 << 16
"""Constants from this size on are not stored a second time, in another order, with the model."""

KEPT = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})
"""Never folded: providers recognize quantized weights by these nodes."""


class LiftConstants(GraphPass):
    """Turns Constant nodes into initializers."""

    name: ClassVar[str] = "lift constants"

    def run(self, graph: Graph, context: PassContext) -> int:
        gone: set[Node] = set()
        for node in graph.nodes:
            if node.domain or node.op_type != "Constant" or node.outputs[0] is None:
                continue
            tensor = constant_payload(node)
            if tensor is None:
                continue
            _make_initializer(graph, node.outputs[0], tensor)
            gone.add(node)
        remove_nodes(graph, gone)
        return len(gone)


class FoldConstants(GraphPass):
    """Computes what depends on constants alone, exactly as a run would.

    What numpy computes to the last bit as every provider has to (movement, integers, correctly rounded arithmetic) is
    computed here.  The rest is handed, as a graph without inputs, to a computation that runs it on the host's provider;
    where there is none it stays in the graph.
    """

    name: ClassVar[str] = "fold constants"

    def __init__(self, compute: Computation | None = None, *, leaves_moves: bool = False) -> None:
        """``leaves_moves``: large constants that are only moved are left to the session (see `only_moves`)."""
        self._compute = compute
        self._leaves_moves = leaves_moves
        self._refused: set[Node] = set()  # could not be computed: they are the run's business

    def run(self, graph: Graph, context: PassContext) -> int:
        nodes = self._foldable(graph)
        if not nodes:
            return 0
        facts = ConstantFacts(graph, nodes, context.opset_imports)
        gone: set[Node] = set()
        for node in nodes:
            contents = facts.contents(node)
            if contents is not None:
                replace_by_constants(graph, node, contents)
                gone.add(node)
        rest = [node for node in nodes if node not in gone and facts.is_cheap(node)]
        if self._compute is not None and rest:
            gone |= self._run_on_host(graph, rest, context)
        remove_nodes(graph, gone)
        return len(gone)

    def _foldable(self, graph: Graph) -> list[Node]:
        """Nodes that read constants, or what other such nodes compute, in the graph's order."""
        known: set[Value] = set()
        found: list[Node] = []
        for node in graph.nodes:
            if node in self._refused or not can_fold(node) or (self._leaves_moves and only_moves(node)):
                continue
            if all(value is None or value.constant is not None or value in known for value in node.inputs):
                found.append(node)
                known.update(value for value in node.outputs if value is not None)
        return found

    def _run_on_host(self, graph: Graph, nodes: Sequence[Node], context: PassContext) -> set[Node]:
        """Compute nodes as one graph; where that fails, each by itself, and those that fail again never more."""
        ready: set[Value] = set()
        batch: list[Node] = []
        for node in nodes:  # a node that is too expensive keeps its readers too
            if all(value is None or value.constant is not None or value in ready for value in node.inputs):
                batch.append(node)
                ready.update(value for value in node.outputs if value is not None)
        if not batch:
            return set()
        if self._computed(graph, batch, context):
            return set(batch)
        done: set[Node] = set()
        for node in batch:
            if any(value is not None and value.constant is None for value in node.inputs):
                continue  # in the next round, if what it reads can be computed
            if len(batch) > 1 and self._computed(graph, [node], context):
                done.add(node)
            else:
                self._refused.add(node)
        return done

    def _computed(self, graph: Graph, nodes: Sequence[Node], context: PassContext) -> bool:
        """Whether the results of ``nodes`` could be computed and are constants now.

        A model that cannot be computed at load time is not wrong yet (the node may sit in a branch that never runs),
        so a failure is logged and the nodes stay.
        """
        assert self._compute is not None
        part = part_of(graph, nodes, context)
        try:
            results = self._compute(part)
        except Exception as error:  # a provider's own failure is told when the node runs
            names = ", ".join(f"'{node.name}' ({node.op_type})" for node in nodes[:3])
            logger.info("%d nodes (%s …) are not folded: %s", len(nodes), names, error)
            return False
        for value, tensor in zip(part.outputs, results, strict=True):
            _make_initializer(graph, value, tensor)
        return True


def constant_payload(node: Node) -> Tensor | None:
    """The tensor a Constant node stands for; None where it has none."""
    for name, attribute in node.attributes.items():
        if name == "value" and attribute.kind is AttributeKind.TENSOR:
            tensor: Tensor = attribute.value
            return tensor
        if name == "value_float":
            return Tensor.from_numpy(np.array(attribute.value, np.float32))
        if name == "value_int":
            return Tensor.from_numpy(np.array(attribute.value, np.int64))
        if name == "value_floats":
            return Tensor.from_numpy(np.array(attribute.value, np.float32))
        if name == "value_ints":
            return Tensor.from_numpy(np.array(attribute.value, np.int64))
        if name == "value_string":
            return Tensor.from_numpy(np.array(attribute.value, dtype=object))
        if name == "value_strings":
            return Tensor.from_numpy(np.array(attribute.value, dtype=object))
    return None


def can_fold(node: Node) -> bool:
    """Whether a node gives the same in every run that gives it the same, and providers do not look for it."""
    if node.domain or node.op_type in KEPT or is_random("", node.op_type) or node.op_type == "Constant":
        return False
    return not any(True for _ in node.subgraphs())


def only_moves(node: Node) -> bool:
    """Whether a node is a Transpose of a large constant.

    The model's file has these numbers already; they need not be stored again in another order.
    """
    source = node.input(0)
    if node.op_type != "Transpose" or node.domain or source is None or source.constant is None:
        return False
    return source.constant.dtype is not DType.STRING and source.constant.nbytes >= LARGE_BYTES


def part_of(graph: Graph, nodes: Sequence[Node], context: PassContext) -> Graph:
    """A graph of ``nodes`` alone, which share their values with ``graph``; its outputs are what others read."""
    own = set(nodes)
    users = graph.users()
    outputs = set(graph.outputs)
    part = Graph(graph.name)
    part.opset_imports = dict(context.opset_imports)
    part.nodes = list(nodes)
    part.outputs = [
        value
        for node in nodes
        for value in node.outputs
        if value is not None and (value in outputs or any(user not in own for user in users.get(value, ())))
    ]
    read = {value for node in nodes for value in node.inputs if value is not None and value.constant is not None}
    part.initializers = {value.name: value for value in read}
    return part


def replace_by_constants(graph: Graph, node: Node, contents: Sequence[Tensor | None]) -> None:
    """Let what a node computes be initializers with these contents; the node is to be removed."""
    for value, tensor in zip(node.outputs, contents, strict=True):
        if value is not None and tensor is not None:
            _make_initializer(graph, value, tensor)


def _make_initializer(graph: Graph, value: Value, tensor: Tensor) -> None:
    constant = Value(value.name, None, tensor)
    value.constant = constant.constant
    value.type = constant.type
    value.producer = None
    graph.initializers[value.name] = value
