"""Work and parameters by layer of the author's model, where the exporter told which layer a node comes from."""

from __future__ import annotations

from collections.abc import Mapping

from mace_core.graph import Graph, Node, Value
from mace_core.inspection.facts import LayerFact
from mace_core.inspection.problems import all_nodes
from mace_core.operators.work import graph_macs
from mace_core.tensor import ValueType


def layer_facts(graph: Graph, types: Mapping[Value, ValueType]) -> list[LayerFact]:
    """One for each layer that nodes come from, in the order in which they first run; none where nothing tells.

    A constant that several layers read counts for the first.
    """
    if not graph.origins:
        return []
    macs = graph_macs(graph, types)
    nodes: dict[str, list[Node]] = {}
    kinds: dict[str, str] = {}
    for node in all_nodes(graph):
        origin = graph.origin_of(node)
        if origin is not None:
            nodes.setdefault(origin.module, []).append(node)
            kinds.setdefault(origin.module, origin.kind.rpartition(".")[2])
    seen: set[Value] = set()
    found = []
    for module, own in nodes.items():
        weights = {value for node in own for value in node.inputs if value is not None and value.constant is not None}
        elements = sum(value.constant.size for value in weights - seen if value.constant is not None)
        seen |= weights
        found.append(LayerFact(module, kinds[module], len(own), elements, sum(macs.get(node.name, 0) for node in own)))
    return found
