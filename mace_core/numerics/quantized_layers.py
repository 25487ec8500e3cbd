"""Cuts a quantized model at its quantized values: what lies between them are layers that can be run by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mace_core.graph import Graph, Node, Value
from mace_core.graph.quantized import is_quantized
from mace_core.numerics.steps import has_steps
from mace_core.operators.registry import is_random
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, TensorType, ValueType

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_NAMED = 4
"""Operators of a layer that its description has room for."""


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that are connected by values that are not quantized.

    Attributes:
        nodes: in the order of the graph, with those that compute the constants that they read.
        results: the quantized values that they make, and outputs of the model.
        cuts: the values at which the model is cut: what the nodes read of them is given to them.
        is_random: whether they draw random numbers, so that no two runs give the same.
    """

    nodes: tuple[Node, ...]
    results: tuple[Value, ...]
    cuts: frozenset[Value]
    is_random: bool

    def separated(self) -> tuple[list[Node], list[Value]]:
        """The nodes, and the results in their order, as other values where they are cuts: one that is given to some of
        the nodes may be made by others."""
        again = {value: Value(f"{value.name}/again", value.type) for value in self.results if value in self.cuts}
        nodes = [
            Node(
                node.op_type,
                node.inputs,
                [None if value is None else again[value] for value in node.outputs],
                name=node.name,
                domain=node.domain,
                attributes=node.attributes,
            )
            if any(value in again for value in node.outputs)
            else node
            for node in self.nodes
        ]
        return nodes, [again.get(value, value) for value in self.results]


@dataclass(frozen=True, slots=True)
class Cut:
    """A quantized model in parts.

    Attributes:
        values: those at which it is cut, in the order of the graph.
        parts: in the order of their first nodes.
        hidden: nodes that have quantized operators inside, in nested graphs, which are not cut.
    """

    values: tuple[Value, ...]
    parts: tuple[Part, ...]
    hidden: tuple[Node, ...]


def cut_at_quantized_values(graph: Graph, types: Mapping[Value, ValueType]) -> Cut:
    """Cut ``graph``, whose values have these types; without values where it has no quantized ones.

    Quantized are integers of 16 bits or fewer, and floats of 8 or fewer, in models that have quantized operators. What
    depends on constants alone is not cut off: weights are constants to those who read them.
    """
    fixed = _fixed(graph)
    varying = {node: None for node in graph.nodes if node not in fixed}
    hidden = tuple(node for node in varying if any(_has_quantized(body) for body in node.subgraphs()))
    cuts: dict[Value, None] = {}
    if any(is_quantized(node) for node in varying):
        for node in varying:
            if any(has_steps(_dtype(value, types)) for value in node.outputs if value is not None):
                cuts.update(dict.fromkeys(value for value in node.outputs if value is not None))
    if not cuts:
        return Cut((), (), hidden)
    made = {value for node in varying for value in node.outputs if value is not None and value not in cuts}
    # floats right behind a cut are computed anew for each layer that reads them, else they would make one of them
    converted = {n for n in varying if n.op_type == "DequantizeLinear" and not made.intersection(node_reads(n))}
    copied = fixed | converted
    groups = _Groups([node for node in varying if node not in converted])
    for node in varying:
        for value in made.intersection(node_reads(node)):
            if value.producer is not None and value.producer not in converted:
                groups.join(value.producer, node)
    wanted = dict.fromkeys(cuts)
    wanted.update(dict.fromkeys(value for value in graph.outputs if value in made))
    shown = [[node] for node in converted if any(value in wanted for value in node.outputs)]
    order = {node: index for index, node in enumerate(graph.nodes)}
    parts = []
    for nodes in (*groups.each(), *shown):
        members = set(nodes)
        if results := tuple(value for value in wanted if value.producer in members):
            ordered = tuple(sorted([*nodes, *_copies_before(nodes, copied, cuts)], key=order.__getitem__))
            drawn = any(is_random(node.domain, node.op_type) for node in nodes)
            parts.append(Part(ordered, results, frozenset(cuts), drawn))
    return Cut(tuple(cuts), tuple(parts), hidden)


def describe_layer(part: Part, result: Value) -> tuple[Node, str]:
    """The node to name a quantized value by, and the operators that make it: conversions are left out, unless there is
    nothing else."""
    members = set(part.nodes)
    before: set[Node] = set()
    behind = [result.producer]
    while behind:
        node = behind.pop()
        if node is not None and node in members and node not in before:
            before.add(node)
            behind += [value.producer for value in node_reads(node) if value not in part.cuts]
    ordered = [node for node in part.nodes if node in before]
    named = [node for node in ordered if node.op_type not in _CONVERSIONS] or ordered[-1:]
    operators = "+".join(node.op_type for node in named[:_NAMED])
    return named[0], operators + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")


class _Groups:
    """Which nodes belong together."""

    def __init__(self, nodes: list[Node]) -> None:
        self._leader = {node: node for node in nodes}

    def join(self, one: Node, other: Node) -> None:
        self._leader[self._find(other)] = self._find(one)

    def each(self) -> Iterator[list[Node]]:
        found: dict[Node, list[Node]] = {}
        for node in self._leader:
            found.setdefault(self._find(node), []).append(node)
        yield from found.values()

    def _find(self, node: Node) -> Node:
        while self._leader[node] is not node:
            self._leader[node] = self._leader[self._leader[node]]
            node = self._leader[node]
        return node


def _fixed(graph: Graph) -> set[Node]:
    """Nodes that depend on constants alone."""
    fixed: set[Node] = set()
    for node in graph.nodes:
        known = (value.constant is not None or value.producer in fixed for value in node_reads(node))
        if not is_random(node.domain, node.op_type) and all(known):
            fixed.add(node)
    return fixed


def _copies_before(nodes: list[Node], copied: set[Node], cuts: Mapping[Value, None]) -> list[Node]:
    """Those of ``copied`` that compute what ``nodes`` read."""
    found: dict[Node, None] = {}
    behind = [*nodes]
    while behind:
        for value in node_reads(behind.pop()):
            if value.producer in copied and value not in cuts and value.producer not in found:
                found[value.producer] = None
                behind.append(value.producer)
    return list(found)


def _has_quantized(graph: Graph) -> bool:
    return any(is_quantized(node) or any(map(_has_quantized, node.subgraphs())) for node in graph.nodes)


def _dtype(value: Value, types: Mapping[Value, ValueType]) -> DType | None:
    found = types.get(value, value.type)
    return found.dtype if isinstance(found, TensorType) else None
