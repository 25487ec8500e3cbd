"""Constants that the session computes: which nodes leave the graph for them, and which must stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_passes import Builder

from mace_core.graph import Attribute, AttributeKind, ComputedTensor, Graph, Node, Value
from mace_core.graph.serialize import dump_graph, graph_fingerprint, load_graph
from mace_core.optimizer import default_passes, deferred, optimize
from mace_core.optimizer.deferred import defer_constants
from mace_core.provider.registry import default_registry
from mace_core.scheduler.running.computed import ComputedConstants
from mace_core.tensor import DType, Tensor, TensorType

LARGE = (1200, 1000)


def left(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def body(nodes: Sequence[Node], result: Value) -> Graph:
    graph = Graph("branch")
    graph.nodes, graph.outputs = list(nodes), [result]
    return graph


def choice(built: Builder, *bodies: Graph) -> Value:
    flag = built.input("flag", (), DType.BOOL)
    result = Value("chosen")
    names = ("then_branch", "else_branch")
    attributes = {name: Attribute(AttributeKind.GRAPH, graph) for name, graph in zip(names, bodies, strict=True)}
    built.graph.nodes.append(Node("If", [flag], [result], name="choice", attributes=attributes))
    return result


def weights(built: Builder, name: str = "w") -> Value:
    return built.constant(name, np.ones(LARGE), np.int8)


def product(value: Value, x: Value, name: str) -> tuple[Node, Value]:
    result = Value(f"product {name}")
    return Node("MatMul", [x, value], [result], name=f"MatMul {name}"), result


def test_a_chain_becomes_one_constant_and_its_stored_form_is_dropped() -> None:
    built = Builder()
    x = built.input("x", (2, LARGE[0]))
    floats = built.op("Mul", built.op("Cast", weights(built), to=1), built.constant("scale", 0.5))
    graph = built.output(built.op("MatMul", x, floats))
    assert optimize(graph).changes["fold constants"] == 0
    assert defer_constants(graph) == 1
    assert left(graph) == ["MatMul"]
    assert list(graph.initializers.values()) == [floats]
    (constant,) = graph.computed
    assert floats.constant is constant
    assert (constant.dtype, constant.shape) == (DType.FLOAT32, LARGE)
    assert [node.op_type for node in constant.recipe.nodes] == ["Cast", "Mul"]
    assert defer_constants(graph) == 0


@pytest.mark.parametrize("defers", [True, False])
def test_weights_in_another_order_are_not_stored_again(defers: bool) -> None:
    """Large ones that are only moved, with what behind them is quantized; a session has the same numbers either way."""
    built = Builder()
    content = np.arange(300 * 400).reshape(300, 400) % 200 - 100
    stored = built.op("Transpose", built.constant("w", content, np.int8), perm=[1, 0])
    scale, zero = built.constant("scale", 0.5), built.constant("zero", 3, np.int8)
    small = built.op("Transpose", built.constant("v", np.ones((3, 300))), perm=[1, 0])
    x = built.input("x", (2, 400))
    product = built.op("MatMul", x, built.op("DequantizeLinear", stored, scale, zero))
    graph = built.output(built.op("MatMul", product, small))
    optimize(graph, default_passes(defers=defers))
    assert small.constant is not None
    assert (stored.constant is None) is defers
    assert defer_constants(graph) == int(defers)
    assert left(graph) == ["DequantizeLinear", "MatMul", "MatMul"]
    assert len(dump_graph(graph)) < (140_000 if defers else 270_000)
    owner = ComputedConstants(default_registry(), "the model")
    for tensor in graph.computed:
        tensor.owner = owner
    assert stored.constant is not None
    np.testing.assert_array_equal(stored.constant.numpy(), content.T)


def test_nodes_that_read_what_is_fed_and_random_ones_stay() -> None:
    built = Builder()
    x = built.input("x", LARGE)
    noise = built.op("RandomNormalLike", weights(built), dtype=1)
    graph = built.output(built.op("Add", built.op("Mul", x, x), noise))
    assert defer_constants(graph) == 0
    assert sorted(left(graph)) == ["Add", "Mul", "RandomNormalLike"]


def test_what_grows_far_beyond_its_constants_stays() -> None:
    built = Builder()
    x = built.input("x", (2000, 2000))
    wide = built.op("Expand", built.constant("one", np.ones((1, 2000))), built.constant("to", [2000, 2000], np.int64))
    graph = built.output(built.op("Add", x, wide))
    assert defer_constants(graph) == 0
    assert left(graph) == ["Expand", "Add"]


def test_quantized_weights_are_recognized_by_their_nodes_and_constant_in_bodies() -> None:
    built = Builder()
    x = built.input("x", (2, LARGE[0]))
    floats = built.op("DequantizeLinear", weights(built), built.constant("scale", 0.5))
    inner, result = product(floats, x, "inside")
    outer, outer_result = product(floats, x, "outside")
    built.graph.nodes.append(outer)
    chosen = choice(built, body([inner], result), body([], x))
    graph = built.output(chosen, outer_result)
    assert defer_constants(graph) == 1
    assert left(graph) == ["DequantizeLinear", "MatMul", "If"]
    assert outer.inputs[1] is floats
    assert isinstance(inner.inputs[1], Value)
    assert isinstance(inner.inputs[1].constant, ComputedTensor)


def test_a_quantized_weight_that_bodies_alone_read_leaves_the_graph_around_them() -> None:
    built = Builder()
    x = built.input("x", (2, LARGE[0]))
    floats = built.op("DequantizeLinear", weights(built), built.constant("scale", 0.5))
    inner, result = product(floats, x, "inside")
    graph = built.output(choice(built, body([inner], result), body([], floats)))
    defer_constants(graph)
    assert left(graph) == ["If"]
    assert len(graph.computed) == 1


def test_equal_recipes_are_one_constant() -> None:
    built = Builder()
    x = built.input("x", (2, LARGE[1]))
    floats = built.op("Cast", weights(built), to=1)
    bodies = []
    for name in ("a", "b"):
        turned = Value(f"turned {name}")
        perm = Attribute(AttributeKind.INTS, (1, 0))
        transpose = Node("Transpose", [floats], [turned], name=f"Transpose {name}", attributes={"perm": perm})
        node, result = product(turned, x, name)
        bodies.append(body([transpose, node], result))
    graph = built.output(choice(built, *bodies), floats)
    assert defer_constants(graph) == 2
    first, second = (branch.nodes[0].inputs[1] for branch in bodies)
    assert first is not None
    assert second is not None
    assert first.constant is second.constant


def test_the_largest_sum_of_bytes_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "MOST_BYTES", 5 * LARGE[0] * LARGE[1])
    built = Builder()
    x = built.input("x", (2, LARGE[0]))
    results = [built.op("MatMul", x, built.op("Cast", weights(built, name), to=1)) for name in "ab"]
    graph = built.output(*results)
    assert defer_constants(graph) == 1
    assert sorted(left(graph)) == ["Cast", "MatMul", "MatMul"]


def test_a_stored_graph_has_the_recipes_and_its_fingerprint_needs_no_numbers() -> None:
    built = Builder()
    x = built.input("x", (2, LARGE[0]))
    floats = built.op("Cast", built.constant("w", np.arange(LARGE[0] * LARGE[1]).reshape(LARGE) % 100, np.int8), to=1)
    graph = built.output(built.op("MatMul", x, floats), built.op("Transpose", floats))
    defer_constants(graph)
    again = load_graph(dump_graph(graph))
    assert graph_fingerprint(again) == graph_fingerprint(graph)
    assert len(again.computed) == len(graph.computed) == 2
    owner = ComputedConstants(default_registry(), "the model")
    for constant in (*graph.computed, *again.computed):
        constant.owner = owner
    for one, other in zip(graph.computed, again.computed, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()
    assert again.initializers[floats.name].constant is again.computed[0]
    assert again.computed[0].numpy()[1, 1] == 1
    assert TensorType(DType.FLOAT32, LARGE) == again.initializers[floats.name].type
    assert isinstance(again.computed[0], Tensor)
