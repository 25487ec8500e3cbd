"""The constants of a graph."""

from __future__ import annotations

from collections.abc import Iterator

from mace_core.graph.attribute import AttributeKind
from mace_core.graph.graph import Graph
from mace_core.tensor import Tensor


def constant_tensors(graph: Graph) -> Iterator[Tensor]:
    """Initializers and the tensors of Constant nodes, those of nested graphs included."""
    for value in graph.initializers.values():
        if value.constant is not None:
            yield value.constant
    for node in graph.nodes:
        if node.op_type == "Constant" and not node.domain:
            for attribute in node.attributes.values():
                if attribute.kind is AttributeKind.TENSOR:
                    yield attribute.value
        for body in node.subgraphs():
            yield from constant_tensors(body)
