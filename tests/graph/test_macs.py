"""Multiply-accumulate counts from shapes."""

from __future__ import annotations

import pytest

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.operators.work import graph_macs, node_macs
from mace_core.tensor import DType, TensorType


def value(name: str, *shape: int | str) -> Value:
    return Value(name, TensorType(DType.FLOAT32, shape))


def node(op: str, inputs: list[Value | None], output: Value, **attributes: int) -> Node:
    kinds = {key: Attribute(AttributeKind.INT, number) for key, number in attributes.items()}
    return Node(op, inputs, [output], name=op.lower(), attributes=kinds)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (node("Conv", [value("x", 2, 8, 10, 10), value("w", 16, 8, 3, 3)], value("y", 2, 16, 8, 8)), 2 * 16 * 64 * 72),
        (node("Conv", [value("x", 1, 8, 10, 10), value("w", 8, 1, 3, 3)], value("y", 1, 8, 8, 8), group=8), 8 * 64 * 9),
        (node("ConvTranspose", [value("x", 1, 4, 5, 5), value("w", 4, 6, 2, 2)], value("y", 1, 6, 10, 10)), 100 * 24),
        (node("MatMul", [value("a", 3, 4, 5), value("b", 5, 6)], value("y", 3, 4, 6)), 3 * 4 * 5 * 6),
        (node("MatMul", [value("a", 5), value("b", 5)], value("y")), 5),
        (node("Gemm", [value("a", 5, 4), value("b", 5, 6)], value("y", 4, 6), transA=1), 4 * 5 * 6),
        (node("LSTM", [value("x", 7, 2, 3), value("w", 2, 16, 3), value("r", 2, 16, 4)], value("y", 7, 2, 2, 4)), 3136),
        (node("Relu", [value("x", 4)], value("y", 4)), 0),
        (node("Conv", [value("x", 1, 8, "h", 10), value("w", 16, 8, 3, 3)], value("y", 1, 16, "h", 8)), None),
    ],
)
def test_counts_of_single_nodes(made: Node, expected: int | None) -> None:
    assert node_macs(made, lambda v: v.type) == expected


def test_a_graph_counts_bodies_once_and_leaves_out_nodes_without_work() -> None:
    body = Graph("body")
    body.nodes = [node("MatMul", [value("a", 2, 3), value("b", 3, 4)], value("c", 2, 4))]
    graph = Graph("outer")
    loop = Node("Loop", [], [], name="loop", attributes={"body": Attribute(AttributeKind.GRAPH, body)})
    graph.nodes = [loop, node("Relu", [value("x", 4)], value("y", 4))]
    assert graph_macs(graph, {}) == {"matmul": 24}
