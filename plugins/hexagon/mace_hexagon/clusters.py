"""Finds quantized operators: DequantizeLinear nodes, an operator, perhaps an activation, QuantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mace_core.graph import GraphView, Node, Value, node_encoding
from mace_core.tensor import QuantEncoding
from mace_hexagon.description import Encoding

ACTIVATIONS = frozenset({"Relu", "Clip"})


@dataclass(frozen=True, eq=False)
class Source:
    """Where a float operand of a cluster comes from: a quantized value and what it stands for."""

    value: Value
    encoding: QuantEncoding
    node: Node


@dataclass(frozen=True, eq=False)
class Cluster:
    """One quantized operator.

    Attributes:
        node: the operator between.
        sources: its float operands that come out of DequantizeLinear nodes.
        activation: a Relu or Clip behind it, or None.
        quantizers: the QuantizeLinear node of each output.
    """

    node: Node
    sources: dict[Value, Source]
    activation: Node | None
    quantizers: tuple[Node, ...]

    @property
    def dequantizers(self) -> tuple[Node, ...]:
        """The DequantizeLinear nodes in front."""
        return tuple(dict.fromkeys(source.node for source in self.sources.values()))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, in topological order."""
        behind = (self.activation,) if self.activation is not None else ()
        return (*self.dequantizers, self.node, *behind, *self.quantizers)


def find_clusters(view: GraphView) -> dict[Node, Cluster]:
    """All clusters of a view, by their operator."""
    inside = set(view.nodes)
    found = {}
    for node in view.nodes:
        if node.domain or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        cluster = _cluster(view, node, inside)
        if cluster is not None:
            found[node] = cluster
    return found


def to_encoding(found: QuantEncoding) -> Encoding | None:
    """The same in the form of descriptions; None for blocked encodings."""
    if found.block_size:
        return None
    return Encoding(found.scale.reshape(-1), found.zero_point.reshape(-1).astype(np.int32), found.axis)


def same_encoding(left: QuantEncoding, right: QuantEncoding) -> bool:
    """Whether two nodes mean the same by a quantized value."""
    return (
        left.axis == right.axis
        and left.block_size == right.block_size
        and np.array_equal(left.scale.reshape(-1), right.scale.reshape(-1))
        and np.array_equal(left.zero_point.reshape(-1), right.zero_point.reshape(-1))
    )


def _cluster(view: GraphView, node: Node, inside: set[Node]) -> Cluster | None:
    sources: dict[Value, Source] = {}
    for value in node.inputs:
        if value is None or view.constant(value) is not None:
            continue
        producer = value.producer
        if producer is None or producer not in inside or producer.op_type != "DequantizeLinear":
            return None
        stored = producer.inputs[0]
        if stored is None:
            return None
        encoding = node_encoding(view, producer)
        if encoding is None or not _agrees_with_producer(view, stored, encoding):
            return None
        sources[value] = Source(stored, encoding, producer)
    if not sources:
        return None
    activation, results = None, [value for value in node.outputs if value is not None]
    if len(results) == 1:
        user = _only_user(view, results[0])
        if user is not None and user.op_type in ACTIVATIONS and not user.domain and user.inputs[0] is results[0]:
            after = user.outputs[0]
            if after is not None and all(view.constant(v) is not None for v in user.inputs[1:] if v is not None):
                activation, results = user, [after]
    quantizers = [_only_user(view, value) for value in results]
    if not quantizers or not _all_quantize(view, quantizers, results):
        return None
    return Cluster(node, sources, activation, tuple(q for q in quantizers if q is not None))


def _agrees_with_producer(view: GraphView, stored: Value, encoding: QuantEncoding) -> bool:
    producer = stored.producer
    if producer is None or producer.op_type != "QuantizeLinear":
        return True
    made = node_encoding(view, producer)
    return made is not None and same_encoding(made, encoding)


def _only_user(view: GraphView, value: Value) -> Node | None:
    users = view.users(value)
    return users[0] if len(users) == 1 and not view.is_output(value) else None


def _all_quantize(view: GraphView, nodes: Iterable[Node | None], results: Iterable[Value]) -> bool:
    for node, value in zip(nodes, results, strict=True):
        if node is None or node.op_type != "QuantizeLinear" or node.inputs[0] is not value or node.outputs[0] is None:
            return False
        encoding = node_encoding(view, node)
        if encoding is None or encoding.axis is not None or encoding.block_size:
            return False
    return True
