"""Multiply-accumulate counts, from shapes: what a speed in GMAC/s is computed from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from mace_core.graph.graph import Graph, Node, Value
from mace_core.tensor import TensorType, ValueType

TypeOf: TypeAlias = "Callable[[Value], ValueType | None]"


def node_macs(node: Node, type_of: TypeOf) -> int | None:
    """Multiply-accumulates of one node, 0 for an operator that has none to speak of (it is not linear algebra).

    Convolutions count every tap, those over padding included; biases and activations do not count.  None where a shape
    that it depends on is not known.
    """
    count = _COUNTERS.get((node.domain, node.op_type))
    return 0 if count is None else count(_Shapes(node, type_of))


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


class _Shapes:
    """Concrete shapes of a node's inputs and outputs."""

    def __init__(self, node: Node, type_of: TypeOf) -> None:
        self._node = node
        self._type_of = type_of

    def input(self, index: int) -> tuple[int, ...] | None:
        return self._shape(self._node.input(index))

    def output(self, index: int = 0) -> tuple[int, ...] | None:
        return self._shape(self._node.output(index))

    def _shape(self, value: Value | None) -> tuple[int, ...] | None:
        found = self._type_of(value) if value is not None else None
        return found.concrete_shape if isinstance(found, TensorType) and found.is_concrete else None

    def attr(self, name: str, default: int) -> int:
        return int(self._node.attr(name, default))


def _convolution(weight: int) -> Callable[[_Shapes], int | None]:
    """Each output element takes one weight filter, (C/group, *kernel)."""

    def count(shapes: _Shapes) -> int | None:
        out, filters = shapes.output(), shapes.input(weight)
        return None if out is None or filters is None else math.prod(out) * math.prod(filters[1:])

    return count


def _transposed_convolution(shapes: _Shapes) -> int | None:
    """Each input element is spread over one weight filter, (M/group, *kernel)."""
    data, filters = shapes.input(0), shapes.input(1)
    return None if data is None or filters is None else math.prod(data) * math.prod(filters[1:])


def _matmul(shapes: _Shapes) -> int | None:
    out, left = shapes.output(), shapes.input(0)
    return None if out is None or not left else math.prod(out) * left[-1]


def _gemm(shapes: _Shapes) -> int | None:
    out, left = shapes.output(), shapes.input(0)
    if out is None or left is None or len(left) != 2:
        return None
    return math.prod(out) * left[0 if shapes.attr("transA", 0) else 1]


def _recurrent(shapes: _Shapes) -> int | None:
    """X (seq, batch, input) or batch first: every step multiplies with W and R of every direction."""
    data, weight, recurrence = shapes.input(0), shapes.input(1), shapes.input(2)
    if data is None or weight is None or recurrence is None:
        return None
    return data[0] * data[1] * (math.prod(weight) + math.prod(recurrence))


_COUNTERS: dict[tuple[str, str], Callable[[_Shapes], int | None]] = {
    ("", "Conv"): _convolution(1),
    ("", "ConvInteger"): _convolution(1),
    ("", "QLinearConv"): _convolution(3),
    ("com.microsoft", "FusedConv"): _convolution(1),
    ("", "ConvTranspose"): _transposed_convolution,
    ("", "MatMul"): _matmul,
    ("", "MatMulInteger"): _matmul,
    ("", "QLinearMatMul"): _matmul,
    ("com.microsoft", "FusedMatMul"): _matmul,
    ("", "Gemm"): _gemm,
    ("com.microsoft", "FusedGemm"): _gemm,
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
}
