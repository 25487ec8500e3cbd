"""Copies of graphs, for those who change what they are given."""

from __future__ import annotations

from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.graph import Graph, Node, Value


def copy_graph(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """A graph that can be changed without changing ``graph``, and its values by those of ``graph``.

    Constants share their content.
    """
    values: dict[Value, Value] = {}
    return _copied(graph, values), values


def _copied(graph: Graph, values: dict[Value, Value]) -> Graph:
    def value_of(value: Value) -> Value:
        if value not in values:
            values[value] = Value(value.name, value.type, value.constant)
        return values[value]

    def attribute_of(attribute: Attribute) -> Attribute:
        if attribute.kind is AttributeKind.GRAPH:
            return Attribute(attribute.kind, _copied(attribute.value, values))
        if attribute.kind is AttributeKind.GRAPHS:
            return Attribute(attribute.kind, tuple(_copied(body, values) for body in attribute.value))
        return attribute

    copy = Graph(graph.name)
    copy.initializers = {name: value_of(value) for name, value in graph.initializers.items()}
    copy.inputs = [value_of(value) for value in graph.inputs]
    for node in graph.nodes:
        inputs = [None if value is None else value_of(value) for value in node.inputs]
        outputs = [None if value is None else value_of(value) for value in node.outputs]
        attributes = {name: attribute_of(attribute) for name, attribute in node.attributes.items()}
        copy.nodes.append(
            Node(
                node.op_type,
                inputs,
                outputs,
                name=node.name,
                domain=node.domain,
                attributes=attributes,
                source=node.source,
            )
        )
    copy.outputs = [value_of(value) for value in graph.outputs]
    copy.defaults, copy.opset_imports = dict(graph.defaults), dict(graph.opset_imports)
    copy.metadata, copy.doc_string = dict(graph.metadata), graph.doc_string
    copy.origins = dict(graph.origins)
    copy.source_path, copy.other_files = graph.source_path, list(graph.other_files)
    copy.computed = list(graph.computed)
    return copy
