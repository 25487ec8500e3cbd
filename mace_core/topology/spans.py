"""Rewrites of several nodes: what lies between two changes of shape needs none of the axes that come and go there.

Exporters write windows, heads of attention and shuffled pixels as Reshape, Transpose, Reshape, through six axes and
more; many devices have no more than four or five.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.scheduler.planning.stages import Stage
from mace_core.tensor import Tensor
from mace_core.topology.axes import TURN, grouped_axes, order_of, turns

NAME = "Reshape, Transpose, Reshape with fewer axes"

_SHAPERS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
MOST_AXES = (5, 4)
"""Tried one after the other: one Transpose is better than two, and takes more axes."""


class Span(NamedTuple):
    """A Transpose with the changes of shape around it.

    Attributes:
        nodes: all of them, in order.
        source: what goes in.
        target: what comes out.
    """

    nodes: tuple[Node, ...]
    source: Value
    target: Value


def span_of(stage: Stage, node: Node, users: dict[Value, list[Node]]) -> Span | None:
    """The span around a Transpose; None for another node, and where its neighbors are needed elsewhere."""
    if node.domain or node.op_type != "Transpose" or node not in stage.nodes:
        return None
    source, target = node.inputs[0], node.outputs[0]
    assert source is not None
    assert target is not None
    nodes = [node]
    outputs = set(stage.outputs)
    while (before := source.producer) is not None and _is_between(before, source, users, outputs):
        nodes.insert(0, before)
        (source,) = before.inputs[:1]
        assert source is not None
    while target not in outputs and len(readers := users.get(target, [])) == 1 and _is_shaper(readers[0], target):
        nodes.append(readers[0])
        (target,) = readers[0].outputs
        assert target is not None
    return None if len(nodes) == 1 else Span(tuple(nodes), source, target)


def _is_shaper(node: Node, value: Value) -> bool:
    return not node.domain and node.op_type in _SHAPERS and node.inputs[0] is value and value not in node.inputs[1:]


def _is_between(node: Node, value: Value, users: dict[Value, list[Node]], outputs: set[Value]) -> bool:
    return not node.domain and node.op_type in _SHAPERS and value not in outputs and len(users.get(value, [])) == 1


def shorter(stage: Stage, span: Span, node: Node, most: int) -> Graph:
    """The span through as many axes as its Transpose has groups that move together; with more than ``most``, one
    axis after the other."""
    source = stage.types[node.inputs[0]].concrete_shape  # type: ignore[index, union-attr]
    sizes, moves = grouped_axes(source, order_of(node, len(source)))
    builder = _Builder(node, span)
    if len(sizes) <= most:
        value = builder.reshaped(span.source, sizes)
        value = builder.turned(value, moves) if moves != sorted(moves) else value
    else:
        value = span.source
        for shape in turns(sizes, moves):
            value = builder.turned(builder.reshaped(value, shape), TURN)
    builder.reshaped(value, stage.types[span.target].concrete_shape, into=span.target)  # type: ignore[union-attr]
    return builder.graph


class _Builder:
    def __init__(self, node: Node, span: Span) -> None:
        self._node = node
        self.graph = Graph(node.name)
        self.graph.inputs, self.graph.outputs = [span.source], [span.target]

    def reshaped(self, value: Value, shape: Sequence[int], *, into: Value | None = None) -> Value:
        name = f"{self._node.name}/shape_{len(self.graph.nodes)}"
        sizes = Value(name, constant=Tensor.from_numpy(np.asarray(shape, np.int64)))
        return self._made("Reshape", [value, sizes], {}, into)

    def turned(self, value: Value, perm: Sequence[int]) -> Value:
        return self._made("Transpose", [value], {"perm": tuple(perm)}, None)

    def _made(
        self, op_type: str, inputs: list[Value], attributes: dict[str, tuple[int, ...]], into: Value | None
    ) -> Value:
        name = f"{self._node.name}/{op_type}_{len(self.graph.nodes)}"
        target = into if into is not None else Value(name)
        made = {key: Attribute(AttributeKind.INTS, numbers) for key, numbers in attributes.items()}
        node = Node(op_type, inputs, [None], name=name, attributes=made, source=self._node.source)
        node.outputs[0] = target  # the original node stays the producer of its own values
        if into is None:
            target.producer = node
        self.graph.nodes.append(node)
        return target
