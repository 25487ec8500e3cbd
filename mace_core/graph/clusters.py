"""Finds quantized operators: DequantizeLinear nodes, an operator, perhaps an activation, QuantizeLinear nodes.

For providers whose vendor has operators of quantized numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_core.graph.encodings import node_encoding
from mace_core.graph.graph import Node, Value
from mace_core.graph.view import GraphView
from mace_core.tensor import QuantEncoding

ACTIVATIONS = frozenset({"Relu", "Clip"})
"""What may stand between the operator and its QuantizeLinear."""

_CONVERTERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_CONVERTER_DOMAINS = ("", "com.microsoft")
"""Both mean the same by them; the second had 16-bit numbers first."""


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
        quantizers: the QuantizeLinear node of each result.
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
    operators = (node for node in view.nodes if not node.domain and node.op_type not in _CONVERTERS)
    found = ((node, _cluster(view, node, inside)) for node in operators)
    return {node: cluster for node, cluster in found if cluster is not None}


def same_encoding(left: QuantEncoding, right: QuantEncoding) -> bool:
    """Whether two nodes mean the same by a quantized value."""
    return (
        (left.axis, left.block_size) == (right.axis, right.block_size)
        and np.array_equal(left.scale.reshape(-1), right.scale.reshape(-1))
        and np.array_equal(left.zero_point.reshape(-1), right.zero_point.reshape(-1))
    )


def _cluster(view: GraphView, node: Node, inside: set[Node]) -> Cluster | None:
    sources: dict[Value, Source] = {}
    for value in node.inputs:
        if value is None or view.constant(value) is not None:
            continue
        source = _source(view, value, inside)
        if source is None:
            return None
        sources[value] = source
    results = [value for value in node.outputs if value is not None]
    if not sources or not results:
        return None
    activation = _activation(view, results[0]) if len(results) == 1 else None
    if activation is not None and activation.outputs[0] is not None:
        results = [activation.outputs[0]]
    quantizers = [_quantizer(view, value) for value in results]
    if any(quantizer is None for quantizer in quantizers):
        return None
    return Cluster(node, sources, activation, tuple(quantizer for quantizer in quantizers if quantizer is not None))


def _source(view: GraphView, value: Value, inside: set[Node]) -> Source | None:
    producer = value.producer
    if producer is None or producer not in inside or not _is(producer, "DequantizeLinear"):
        return None
    stored, encoding = producer.inputs[0], node_encoding(view, producer)
    if stored is None or encoding is None or encoding.block_size:
        return None
    maker = stored.producer
    if maker is not None and _is(maker, "QuantizeLinear"):
        made = node_encoding(view, maker)
        if made is None or not same_encoding(made, encoding):
            return None
    return Source(stored, encoding, producer)


def _activation(view: GraphView, result: Value) -> Node | None:
    user = only_user(view, result)
    if user is None or user.op_type not in ACTIVATIONS or user.inputs[0] is not result:
        return None
    bounds = [value for value in user.inputs[1:] if value is not None]
    return user if all(view.constant(value) is not None for value in bounds) else None


def only_user(view: GraphView, value: Value) -> Node | None:
    """The one node that reads ``value``, if it is of the default domain; None if more is done with it."""
    user = _sole_user(view, value)
    return None if user is None or user.domain else user


def _sole_user(view: GraphView, value: Value) -> Node | None:
    users = view.users(value)
    return users[0] if len(users) == 1 and not view.is_output(value) else None


def _quantizer(view: GraphView, value: Value) -> Node | None:
    user = _sole_user(view, value)
    if user is None or not _is(user, "QuantizeLinear") or user.inputs[0] is not value or user.outputs[0] is None:
        return None
    encoding = node_encoding(view, user)
    return None if encoding is None or encoding.axis is not None or encoding.block_size else user


def _is(node: Node, op_type: str) -> bool:
    return node.op_type == op_type and node.domain in _CONVERTER_DOMAINS
