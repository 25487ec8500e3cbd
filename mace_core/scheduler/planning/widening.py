"""A node on half-precision floats as the same operator on float32 between casts."""

from __future__ import annotations

from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, Node, Value
from mace_core.tensor import DType, TensorType

HALVES = frozenset({DType.FLOAT16, DType.BFLOAT16})
NAMES_ITS_TYPE = frozenset({"to", "dtype", "output_dtype"})
"""Attributes that fix an element type: such nodes are left alone."""


def widened(view: GraphView, node: Node) -> Graph | None:
    """``node`` computed in float32, as a graph over the node's own inputs and outputs; None where nothing is narrow."""
    if node.op_type in ("Cast", "CastLike", "BitCast") or any(True for _ in node.subgraphs()):
        return None
    if NAMES_ITS_TYPE & set(node.attributes):
        return None
    graph = Graph(node.name)
    graph.inputs = list(dict.fromkeys(value for value in node.inputs if value is not None))
    graph.outputs = [value for value in node.outputs if value is not None]
    wide: dict[Value, Value] = {}
    for value in graph.inputs:
        if _is_half(view, value):
            wide[value] = _cast(graph, node, value, DType.FLOAT32)
    if not wide:
        return None
    results: list[Value | None] = []
    for index, output in enumerate(node.outputs):
        results.append(None if output is None else Value(f"{node.name}/wide_{index}"))
    inner = Node(
        node.op_type,
        [None if value is None else wide.get(value, value) for value in node.inputs],
        results,
        name=f"{node.name}/wide",
        domain=node.domain,
        attributes=node.attributes,
        source=node.source,
    )
    graph.nodes.append(inner)
    for output, result in zip(node.outputs, results, strict=True):
        if output is not None and result is not None:
            # where the type is not a half, the cast changes nothing
            found = view.tensor_type(output)
            if found is None:
                return None
            _cast(graph, node, result, found.dtype, into=output)
    return graph


def _is_half(view: GraphView, value: Value) -> bool:
    found = view.tensor_type(value)
    return found is not None and found.dtype in HALVES


def _cast(graph: Graph, node: Node, source: Value, dtype: DType, *, into: Value | None = None) -> Value:
    target = into if into is not None else Value(f"{node.name}/{len(graph.nodes)}", TensorType(dtype))
    cast = Node(
        "Cast",
        [source],
        [None],
        name=f"{node.name}/cast_{len(graph.nodes)}",
        attributes={"to": Attribute(AttributeKind.INT, dtype.value)},
        source=node.source,
    )
    cast.outputs[0] = target
    if into is None:
        target.producer = cast
    graph.nodes.append(cast)
    return target
