"""How much a node computes, from shapes: what bounds it while planning, and what a speed in GMAC/s is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from mace_core.graph.graph import Graph, Node, Value
from mace_core.operators.context import NodeShapes
from mace_core.operators.registry import find_work
from mace_core.tensor import TensorType, ValueType

TypeOf: TypeAlias = "Callable[[Value], ValueType | None]"


def node_work(node: Node, types: Mapping[Value, ValueType]) -> int:
    """An estimate from shapes alone, in elementary operations; what is not known counts as nothing.

    Every element of a result takes one; for some operators more is known (`mace_core.operators.work_estimate`).
    """
    work = 0
    for value in node.outputs:
        if value is not None:
            work = max(work, _elements(types.get(value, value.type)))
    entry = find_work(node.domain, node.op_type)
    if entry is None:
        return work
    return max(work, entry.count(NodeShapes(node, lambda value: types.get(value, value.type))) or 0)


def node_macs(node: Node, type_of: TypeOf) -> int | None:
    """Multiply-accumulates of one node, 0 for an operator that has none to speak of (it is not linear algebra).

    Convolutions count every tap, those over padding included; biases and activations do not count.  None where a shape
    that it depends on is not known.
    """
    entry = find_work(node.domain, node.op_type)
    return entry.count(NodeShapes(node, type_of)) if entry is not None and entry.are_macs else 0


def graph_macs(graph: Graph, types: Mapping[Value, ValueType]) -> dict[str, int]:
    """Counts by node name, of those nodes that have any and whose shapes are known; bodies of If, Loop and Scan too.

    A body counts once, however often it runs.
    """

    def type_of(value: Value) -> ValueType | None:
        return types.get(value, value.type)

    counts = {node.name: node_macs(node, type_of) for node in _all_nodes(graph)}
    return {name: count for name, count in counts.items() if count}


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from _all_nodes(body)


def _elements(found: ValueType | None) -> int:
    """Asked for every value of a graph, so written for speed."""
    if not isinstance(found, TensorType) or found.shape is None:
        return 0
    total = 1
    for size in found.shape:
        if not isinstance(size, int):
            return 0
        total *= size
    return total
