"""The same computation done twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mace_core.graph import AttributeKind, Graph, Node, Value
from mace_core.operators.registry import is_deterministic
from mace_core.optimizer.infra import GraphPass, PassContext, final, remove_nodes, replace_values
from mace_core.tensor import Tensor

SMALL_CONSTANT_BYTES = 1024
"""Constants up to this size are compared by content."""


class MergeCommonSubexpressions(GraphPass):
    """Keeps one of several nodes with the same operator, inputs and attributes; likewise equal small constants."""

    name: ClassVar[str] = "merge common subexpressions"

    def run(self, graph: Graph, context: PassContext) -> int:
        replaced = _equal_constants(graph)
        merged_constants = len(replaced)
        first: dict[tuple[Any, ...], Node] = {}
        gone: set[Node] = set()
        outputs = set(graph.outputs)
        for node in graph.nodes:
            key = _key(node, replaced)
            if key is None:
                continue
            twin = first.setdefault(key, node)
            if twin is node or not outputs.isdisjoint(node.outputs):
                continue
            for kept, merged in zip(twin.outputs, node.outputs, strict=True):
                if kept is not None and merged is not None:
                    replaced[merged] = kept
            twin.source = tuple(dict.fromkeys((*twin.source, *node.source)))
            gone.add(node)
        remove_nodes(graph, gone)
        replace_values(graph, replaced)
        return merged_constants + len(gone)


def _key(node: Node, replaced: Mapping[Value, Value]) -> tuple[Any, ...] | None:
    if not is_deterministic(node.domain, node.op_type):
        return None
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.kind in (AttributeKind.GRAPH, AttributeKind.GRAPHS):
            return None
        attributes.append((name, attribute.kind, hashable(attribute.value)))
    inputs = tuple(None if value is None else id(final(replaced, value)) for value in node.inputs)
    outputs = tuple(value is not None for value in node.outputs)
    return (node.domain, node.op_type, inputs, tuple(attributes), outputs)


def hashable(value: Any) -> Any:
    """The value of an attribute, in a form that is equal for equal ones."""
    if isinstance(value, Tensor):
        return _content(value) if value.nbytes <= SMALL_CONSTANT_BYTES else id(value)
    if isinstance(value, tuple):
        return tuple(hashable(item) for item in value)
    if isinstance(value, float):
        return value.hex()  # tells -0.0 from 0.0 and lets NaN equal itself
    return value


def _content(tensor: Tensor) -> tuple[Any, ...]:
    payload = tensor.payload
    stored = tuple(payload.reshape(-1)) if payload.dtype == object else payload.tobytes()
    return (tensor.dtype, tensor.shape, stored)


def _equal_constants(graph: Graph) -> dict[Value, Value]:
    """Drop all but one of equal small initializers; returns what stands in for each that went."""
    first: dict[tuple[Any, ...], Value] = {}
    replaced: dict[Value, Value] = {}
    outputs = set(graph.outputs)
    for name, value in list(graph.initializers.items()):
        tensor = value.constant
        if tensor is None or tensor.nbytes > SMALL_CONSTANT_BYTES or value in outputs:
            continue
        kept = first.setdefault(_content(tensor), value)
        if kept is not value:
            replaced[value] = kept
            del graph.initializers[name]
    return replaced
