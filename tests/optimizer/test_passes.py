"""Every pass of the optimizer by itself: what it changes, and what it must leave alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.operators import declare_random, register_shape_function, shape_function
from mace_core.operators.context import same_as_first
from mace_core.operators.registry import find_shape_function, random_operators
from mace_core.optimizer import optimize
from mace_core.optimizer.common_subexpressions import SMALL_CONSTANT_BYTES, MergeCommonSubexpressions
from mace_core.optimizer.constants import KEPT, FoldConstants, LiftConstants
from mace_core.optimizer.control_flow import InlineDecidedIf
from mace_core.optimizer.dead_code import RemoveDeadCode
from mace_core.optimizer.evaluate import MAX_ELEMENTS_OF_SUMS, MAX_GROWTH_BYTES, MAX_TEXT
from mace_core.optimizer.identities import RemoveIdentities
from mace_core.optimizer.infra import GraphPass, PassContext
from mace_core.session import Session
from mace_core.tensor import DType, Tensor, TensorType

FLOAT = DType.FLOAT32


class Builder:
    """A graph of the newest forms, made node by node."""

    def __init__(self, *, opset: int = 17) -> None:
        self.graph = Graph("passes")
        self.graph.opset_imports = {"": opset}

    def input(self, name: str, shape: Sequence[int | str] = (2, 3), dtype: DType = FLOAT) -> Value:
        value = Value(name, TensorType(dtype, tuple(shape)))
        self.graph.inputs.append(value)
        return value

    def constant(self, name: str, content: Any, dtype: Any = np.float32) -> Value:
        value = Value(name, None, Tensor.from_numpy(np.asarray(content, dtype)))
        self.graph.initializers[name] = value
        return value

    def node(self, op: str, *inputs: Value | None, name: str = "", outputs: int = 1, **attributes: Any) -> list[Value]:
        name = name or f"{op}_{len(self.graph.nodes)}"
        results = [Value(f"{name}:{index}") for index in range(outputs)]
        made = {key: _attribute(value) for key, value in attributes.items()}
        self.graph.nodes.append(Node(op, inputs, results, name=name, attributes=made))
        return results

    def op(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        return self.node(op, *inputs, **attributes)[0]

    def output(self, *values: Value) -> Graph:
        self.graph.outputs.extend(values)
        return self.graph


def _attribute(value: Any) -> Attribute:
    if isinstance(value, Graph):
        return Attribute(AttributeKind.GRAPH, value)
    if isinstance(value, Tensor):
        return Attribute(AttributeKind.TENSOR, value)
    if isinstance(value, float):
        return Attribute(AttributeKind.FLOAT, value)
    if isinstance(value, str):
        return Attribute(AttributeKind.STRING, value)
    if isinstance(value, int):
        return Attribute(AttributeKind.INT, value)
    kind = AttributeKind.FLOATS if value and isinstance(value[0], float) else AttributeKind.INTS
    return Attribute(AttributeKind.STRINGS if value and isinstance(value[0], str) else kind, tuple(value))


def apply(graph_pass: GraphPass, graph: Graph) -> int:
    return graph_pass.run(graph, PassContext(graph.opset_imports))


def ops(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def run(graph: Graph, **feeds: Any) -> list[np.ndarray]:
    """By the session, which is told not to simplify."""
    with Session(graph, optimize=False, cache=False) as session:
        return list(session.run(feeds).values())


# --- lift constants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "given", "expected"),
    [
        ("value", Tensor.from_numpy(np.arange(3, dtype=np.int8)), np.arange(3, dtype=np.int8)),
        ("value_float", 2.5, np.float32(2.5)),
        ("value_int", -7, np.int64(-7)),
        ("value_floats", [1.5, 2.5], np.float32([1.5, 2.5])),
        ("value_ints", [3, 4], np.int64([3, 4])),
        ("value_string", "text", np.array("text", object)),
        ("value_strings", ["a", "b"], np.array(["a", "b"], object)),
    ],
)
def test_constant_nodes_become_initializers(attribute: str, given: Any, expected: Any) -> None:
    b = Builder()
    graph = b.output(b.op("Constant", **{attribute: given}))
    assert apply(LiftConstants(), graph) == 1
    (value,) = graph.outputs
    assert not graph.nodes and graph.initializers[value.name] is value and value.producer is None
    assert value.constant is not None
    np.testing.assert_array_equal(value.constant.numpy(), np.asarray(expected), strict=True)
    assert apply(LiftConstants(), graph) == 0


# --- fold constants ---------------------------------------------------------------------------------------------------


def _numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32)


def test_what_depends_on_constants_alone_is_computed() -> None:
    b = Builder()
    first = b.op("Add", b.constant("a", [1, 2]), b.constant("b", [10, 20]))
    graph = b.output(b.op("Mul", first, b.input("x", (2,))), b.op("Neg", first))
    assert apply(FoldConstants(), graph) == 2
    assert ops(graph) == ["Mul"]
    np.testing.assert_array_equal(graph.outputs[1].constant.numpy(), [-11, -22])  # type: ignore[union-attr]
    assert apply(FoldConstants(), graph) == 0


def _growing(b: Builder, elements: int) -> list[Value]:
    """Results of ``elements`` float32 elements each, made of next to nothing."""
    one = b.constant("one", [1])
    shape = b.constant("shape", [elements], np.int64)
    return [
        b.op("Expand", one, shape),
        b.op("Tile", one, shape),
        b.op("ConstantOfShape", shape),
        b.op("Range", b.constant("0", 0), b.constant("end", elements), b.constant("1", 1)),
        b.op("Pad", one, b.constant("pads", [0, elements - 1], np.int64)),
    ]


@pytest.mark.parametrize(("elements", "folded"), [(MAX_GROWTH_BYTES // 4, 5), (MAX_GROWTH_BYTES // 4 + 64, 0)])
def test_results_may_be_only_so_much_larger_than_what_they_are_made_of(elements: int, folded: int) -> None:
    b = Builder()
    asked = []

    def compute(part: Graph) -> list[Tensor]:
        asked.extend(part.nodes)
        raise AssertionError("nothing of this is handed on")

    graph = b.output(*_growing(b, elements))
    assert apply(FoldConstants(compute), graph) == folded
    assert len(graph.nodes) == 5 - folded and not asked


def test_doubling_again_and_again_ends() -> None:
    b = Builder()
    value = b.constant("start", _numbers(1 << 18))
    for _ in range(8):
        value = b.op("Concat", value, value, axis=0)
    graph = b.output(value)
    apply(FoldConstants(), graph)
    assert ops(graph) == ["Concat"] * 7  # 2 MiB from 1, then each may take 1 MiB more at most


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("MatMul", [(1 << 12, 1 << 9), (1 << 9, 1 << 8)], {}),
        ("Gemm", [(1 << 12, 1 << 9), (1 << 9, 1 << 8)], {}),
        ("Einsum", [(MAX_ELEMENTS_OF_SUMS,), (1,)], {"equation": "i,j->ij"}),
        ("Conv", [(1, 1, MAX_ELEMENTS_OF_SUMS), (1, 1, 1)], {}),
        ("Exp", [((1 << 19) + 1,)], {}),
    ],
)
def test_what_takes_long_is_left_to_the_run(op: str, inputs: list[tuple[int, ...]], attributes: dict[str, Any]) -> None:
    def compute(part: Graph) -> list[Tensor]:
        raise AssertionError("too dear")

    b = Builder()
    values = [b.constant(f"c{i}", np.ones(shape, np.float32)) for i, shape in enumerate(inputs)]
    graph = b.output(b.op(op, *values, **attributes))
    assert apply(FoldConstants(compute), graph) == 0


def test_long_texts_are_not_put_together() -> None:
    def compute(part: Graph) -> list[Tensor]:
        raise AssertionError("too long")

    b = Builder(opset=20)
    text = Value("t", None, Tensor.from_numpy(np.array(["x" * (MAX_TEXT + 1)], object)))
    b.graph.initializers["t"] = text
    assert apply(FoldConstants(compute), b.output(b.op("StringConcat", text, text))) == 0


def _random_node(b: Builder, op: str) -> Value:
    table = b.constant("table", np.full((2, 40), 0.5))
    attributes: dict[str, Any] = {"shape": [2, 40]} if op in ("RandomNormal", "RandomUniform") else {}
    inputs = [] if attributes else [table]
    if op == "Dropout":
        inputs += [b.constant("ratio", 0.5), b.constant("training", True, np.bool_)]
    if op == "Multinomial":
        attributes["sample_size"] = 40
    return b.op(op, *inputs, **attributes)


@pytest.mark.parametrize("seed", [None, 3.0])
@pytest.mark.parametrize("op", random_operators(""))
def test_random_numbers_are_never_folded_nor_shared(op: str, seed: float | None) -> None:
    calls = []

    def compute(part: Graph) -> list[Tensor]:
        calls.append(ops(part))
        raise AssertionError("random numbers are drawn by runs")

    b = Builder()
    values = [_random_node(b, op) for _ in range(2)]
    if seed is not None and op != "Dropout":
        for node in b.graph.nodes:
            node.attributes["seed"] = _attribute(seed)
    graph = b.output(*(b.op("Neg", value) for value in values) if op != "Multinomial" else values)
    kept = ops(graph)
    for graph_pass in (FoldConstants(compute), MergeCommonSubexpressions(), RemoveIdentities()):
        assert apply(graph_pass, graph) in (0, 1)  # equal tables may be merged
    assert ops(graph) == kept and not calls


@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform", "Bernoulli", "Multinomial", "Dropout"])
def test_random_numbers_differ_from_run_to_run(op: str) -> None:
    b = Builder()
    condition = b.input("c", (), DType.BOOL)
    inner = Builder()
    graph = b.output(_random_node(b, op))
    body = inner.output(_random_node(inner, op))
    b.graph.outputs.append(b.op("If", condition, then_branch=body, else_branch=_negated(op)))
    with Session(graph, cache=False) as session:
        first, second = (list(session.run({"c": np.array(True)}).values()) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert not np.array_equal(one, other)


def _negated(op: str) -> Graph:
    b = Builder()
    return b.output(_random_node(b, op))


@pytest.mark.parametrize("op", sorted(KEPT - {"DynamicQuantizeLinear"}))
def test_quantized_weights_stay_recognizable(op: str) -> None:
    b = Builder()
    content = b.constant("w", [1, 2], np.uint8 if op == "DequantizeLinear" else np.float32)
    graph = b.output(b.op(op, content, b.constant("scale", 0.5), b.constant("zero", 3, np.uint8)))
    assert apply(FoldConstants(), graph) == 0


def _computed(part: Graph) -> list[Tensor]:
    """Ones for every output; a node named "bad" fails."""
    if any(node.name == "bad" for node in part.nodes):
        raise ValueError("it cannot be computed")
    return [Tensor.from_numpy(np.ones(2, np.float32)) for _ in part.outputs]


def test_what_is_not_exact_is_computed_by_whoever_runs_the_model() -> None:
    b = Builder()
    exponential = b.op("Exp", b.constant("a", [1, 2]))
    graph = b.output(b.op("Sin", exponential), b.op("Mul", exponential, b.input("x", (2,))))
    parts: list[tuple[list[str], int]] = []

    def compute(part: Graph) -> list[Tensor]:
        parts.append((ops(part), len(part.outputs)))
        return _computed(part)

    assert apply(FoldConstants(), graph) == 0, "without a computation it stays"
    assert apply(FoldConstants(compute), graph) == 2
    assert parts == [(["Exp", "Sin"], 2)] and ops(graph) == ["Mul"]


def test_a_node_that_cannot_be_computed_stays_and_is_not_tried_again() -> None:
    b = Builder()
    source = b.constant("a", [1, 2])
    bad = b.op("Exp", source, name="bad")
    graph = b.output(b.op("Sin", bad), b.op("Cos", source))
    tries = []

    def compute(part: Graph) -> list[Tensor]:
        tries.append([node.name for node in part.nodes])
        return _computed(part)

    fold = FoldConstants(compute)
    while apply(fold, graph):
        pass
    assert ops(graph) == ["Exp", "Sin"]
    assert sum("bad" in names for names in tries) == 2  # among others, and by itself


def test_invalid_nodes_stay() -> None:
    b = Builder()
    graph = b.output(b.op("Add", b.constant("a", [1, 2]), b.constant("b", [1, 2, 3])))
    assert apply(FoldConstants(_computed), graph) == 0


# --- merge common subexpressions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "op", "merged"),
    [
        ("com.microsoft", "QuickGelu", 1),
        ("com.example.passes", "Described", 1),
        ("com.example.passes", "Declared", 0),
        ("com.example.passes", "Replaced", 0),
        ("com.example.passes", "Unknown", 0),
    ],
)
def test_equal_nodes_are_merged_where_their_operator_is_known_to_give_equal_results(
    domain: str, op: str, merged: int
) -> None:
    if find_shape_function("com.example.passes", "Described") is None:
        for described in ("Described", "Declared"):
            shape_function(described, domain="com.example.passes")(same_as_first)
        declare_random("Declared", domain="com.example.passes")
        register_shape_function("com.example.passes", "Replaced", same_as_first)
    b = Builder()
    x = b.input("x")
    values = [b.op(op, x), b.op(op, x)]
    for node in b.graph.nodes:
        node.domain = domain
    graph = b.output(b.op("Sub", *values))
    assert apply(MergeCommonSubexpressions(), graph) == merged
    assert len(ops(graph)) == 3 - merged


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float32([0.0]), np.float32([-0.0])),
        (np.float32([0.0]), np.float64([0.0])),
        (np.float32([0.0]), np.int32([0])),
        (np.zeros((1, 2), np.float32), np.zeros((2, 1), np.float32)),
        (np.float32([1.0]), np.float32([1.0000001])),
    ],
)
def test_constants_that_differ_in_any_bit_are_two(one: np.ndarray, other: np.ndarray) -> None:
    b = Builder()
    values = [b.constant(f"c{i}", content, content.dtype) for i, content in enumerate((one, other))]
    graph = b.output(*(b.op("Identity", value) for value in values))
    assert apply(MergeCommonSubexpressions(), graph) == 0
    assert len(graph.initializers) == 2


def test_the_sign_of_zero_survives() -> None:
    b = Builder()
    x = b.input("x", (1,))
    graph = b.output(*(b.op("Div", x, b.constant(f"c{i}", [zero])) for i, zero in enumerate((0.0, -0.0))))
    optimize(graph)
    assert [float(array[0]) for array in run(graph, x=np.float32([1]))] == [np.inf, -np.inf]


@pytest.mark.parametrize(("first", "second", "left"), [(0.0, -0.0, 2), (0.5, 0.5, 1), (float("nan"), float("nan"), 1)])
def test_attributes_are_compared_bit_by_bit(first: float, second: float, left: int) -> None:
    b = Builder()
    x = b.input("x")
    values = [b.op("LeakyRelu", x, alpha=alpha) for alpha in (first, second)]
    graph = b.output(b.op("Add", *values))
    assert apply(MergeCommonSubexpressions(), graph) == 2 - left
    assert ops(graph).count("LeakyRelu") == left


def test_equal_nodes_and_equal_small_constants_become_one() -> None:
    b = Builder()
    x = b.input("x")
    sums = [b.op("Add", x, b.constant(f"c{i}", [1.0])) for i in range(2)]
    graph = b.output(b.op("Mul", *(b.op("Neg", value) for value in sums)))
    before = run(graph, x=np.ones((2, 3), np.float32))
    assert apply(MergeCommonSubexpressions(), graph) == 3
    assert ops(graph) == ["Add", "Neg", "Mul"]
    np.testing.assert_array_equal(run(graph, x=np.ones((2, 3), np.float32))[0], before[0])


def test_large_constants_are_not_compared() -> None:
    b = Builder()
    for i in range(2):
        b.constant(f"c{i}", np.zeros(SMALL_CONSTANT_BYTES // 4 + 1))
    graph = b.output(*(b.op("Neg", value) for value in b.graph.initializers.values()))
    assert apply(MergeCommonSubexpressions(), graph) == 0


def test_outputs_keep_their_own_nodes_and_constants() -> None:
    b = Builder()
    x = b.input("x")
    graph = b.output(b.op("Neg", x), b.op("Neg", x), b.constant("a", [1]), b.constant("b", [1]))
    assert apply(MergeCommonSubexpressions(), graph) == 0


@pytest.mark.parametrize("outputs", [(True, False), (True, True)])
def test_nodes_that_compute_other_outputs_are_two(outputs: tuple[bool, bool]) -> None:
    b = Builder()
    x = b.input("x")
    k = b.constant("k", [1], np.int64)
    for asked in ((True, True), outputs):
        values, places = b.node("TopK", x, k, outputs=2)
        b.graph.nodes[-1].outputs = [values, places if asked[1] else None]
        b.graph.outputs.append(b.op("Neg", values))
    merged = apply(MergeCommonSubexpressions(), b.graph)
    assert merged == (1 if outputs == (True, True) else 0)


# --- remove identities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Identity", x),
        lambda b, x: b.op("Dropout", x),
        lambda b, x: b.op("Dropout", x, b.constant("ratio", 0.5), b.constant("training", False, np.bool_)),
        lambda b, x: b.op("Cast", x, to=DType.FLOAT32.value),
        lambda b, x: b.op("Transpose", x, perm=[0, 1]),
        lambda b, x: b.op("Concat", x, axis=1),
    ],
)
def test_nodes_that_change_nothing_go(make: Callable[[Builder, Value], Value]) -> None:
    b = Builder()
    x = b.input("x")
    graph = b.output(b.op("Neg", make(b, x)))
    assert apply(RemoveIdentities(), graph) == 1
    assert ops(graph) == ["Neg"] and graph.nodes[0].inputs == [x]


@pytest.mark.parametrize(
    "make",
    [
        lambda b, x: b.op("Dropout", x, b.constant("ratio", 0.5), b.constant("training", True, np.bool_)),
        lambda b, x: b.op("Dropout", x, None, b.input("training", (), DType.BOOL)),
        lambda b, x: b.op("Cast", x, to=DType.FLOAT64.value),
        lambda b, x: b.op("Transpose", x, perm=[1, 0]),
        lambda b, x: b.op("Transpose", x),
        lambda b, x: b.op("Concat", x, x, axis=1),
    ],
)
def test_nodes_that_may_change_something_stay(make: Callable[[Builder, Value], Value]) -> None:
    b = Builder()
    graph = b.output(b.op("Neg", make(b, b.input("x"))))
    assert apply(RemoveIdentities(), graph) == 0


@pytest.mark.parametrize("is_test", [0, 1])
def test_before_opset_7_dropout_says_whether_it_trains(is_test: int) -> None:
    b = Builder(opset=6)
    graph = b.output(b.op("Neg", b.op("Dropout", b.input("x"), is_test=is_test)))
    assert apply(RemoveIdentities(), graph) == is_test


@pytest.mark.parametrize("is_output", [False, True])
@pytest.mark.parametrize("reads_data", [False, True])
def test_a_dropout_whose_mask_is_read_stays(is_output: bool, reads_data: bool) -> None:
    b = Builder()
    data, mask = b.node("Dropout", b.input("x"), outputs=2)
    mask_result = mask if is_output else b.op("Not", mask)
    graph = b.output(*([data] if reads_data else []), mask_result)
    assert apply(RemoveIdentities(), graph) == 0
    *_, found = run(graph, x=np.ones((2, 3), np.float32))
    assert found.all() == is_output


def test_outputs_keep_their_names() -> None:
    b = Builder()
    x = b.input("x")
    first = b.op("Identity", b.op("Neg", x, name="negation"), name="named")
    graph = b.output(first, b.op("Identity", x, name="copy"))
    assert apply(RemoveIdentities(), graph) == 1  # an input cannot have the name of an output
    assert ops(graph) == ["Neg", "Identity"] and [value.name for value in graph.outputs] == ["named:0", "copy:0"]
    negated, copied = run(graph, x=np.ones((2, 3), np.float32))
    assert (negated == -1).all() and (copied == 1).all()


def test_a_value_returned_under_two_names_stays_two() -> None:
    b = Builder()
    negated = b.op("Neg", b.input("x"))
    graph = b.output(negated, b.op("Identity", negated))
    assert apply(RemoveIdentities(), graph) == 0


# --- inline decided If ------------------------------------------------------------------------------------------------


def _branch(op: str, source: Value, *, constant: float = 1.0) -> Graph:
    """``op(source, c)`` with names that every branch uses."""
    inner = Builder()
    inner.graph.name = "branch"
    added = inner.node("Add", source, inner.constant("c", [constant]), name="inner")[0]
    return inner.output(inner.node(op, added, name="last")[0])


@pytest.mark.parametrize("taken", [True, False])
def test_the_branch_taken_stands_in_for_the_if(taken: bool) -> None:
    b = Builder()
    x = b.input("x")
    condition = b.constant("condition", taken, np.bool_)
    found = b.op("If", condition, then_branch=_branch("Neg", x), else_branch=_branch("Abs", x))
    graph = b.output(b.op("Exp", found))
    assert apply(InlineDecidedIf(), graph) == 1
    assert ops(graph) == ["Add", "Neg" if taken else "Abs", "Exp"]


def test_an_if_that_is_decided_by_the_run_stays() -> None:
    b = Builder()
    x = b.input("x")
    branches = {"then_branch": _branch("Neg", x), "else_branch": _branch("Abs", x)}
    graph = b.output(b.op("If", b.input("c", (), DType.BOOL), **branches))
    assert apply(InlineDecidedIf(), graph) == 0


def test_names_of_branches_that_clash_are_told_apart() -> None:
    """Branches use the same names for values, constants and nodes; some are taken outside, the new ones too."""
    b = Builder()
    x = b.input("x")
    condition = b.constant("condition", True, np.bool_)
    outer = b.node("Neg", x, name="inner")[0]
    taken = [b.constant("c", [100.0]), b.constant("If_0/c", [1000.0]), b.constant("If_1/c", [2000.0])]
    results = []
    for i in range(3):
        branches = {"then_branch": _branch("Neg", x, constant=float(i)), "else_branch": _branch("Abs", x)}
        results.append(b.node("If", condition, name=f"If_{i}", **branches)[0])
    clash = b.node("Neg", x, name="If_2/last")[0]
    graph = b.output(*results, outer, clash, b.op("Sum", x, *taken))
    before = run(graph, x=np.ones((2, 3), np.float32))
    assert apply(InlineDecidedIf(), graph) == 3
    values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph.nodes for v in node.outputs if v)]
    assert len({value.name for value in values}) == len(values)
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)
    assert all(graph.initializers[value.name] is value for value in graph.initializers.values())
    for found, expected in zip(run(graph, x=np.ones((2, 3), np.float32)), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_branch_may_return_what_is_outside_it() -> None:
    b = Builder()
    x = b.input("x")
    bodies = []
    for _ in range(2):
        body = Graph("branch")
        body.outputs = [x, x]
        bodies.append(body)
    first, second = b.node(
        "If", b.constant("condition", True, np.bool_), outputs=2, then_branch=bodies[0], else_branch=bodies[1]
    )
    graph = b.output(b.op("Neg", first), second)
    assert apply(InlineDecidedIf(), graph) == 1
    negated, same = run(graph, x=np.ones((2, 3), np.float32))
    assert (negated == -1).all() and (same == 1).all()


# --- remove dead code -------------------------------------------------------------------------------------------------


def test_what_no_output_needs_goes() -> None:
    b = Builder()
    x = b.input("x")
    b.op("Exp", b.op("Abs", b.op("Add", x, b.constant("unread", [1]))))
    graph = b.output(b.op("Mul", x, b.constant("read", [2])))
    assert apply(RemoveDeadCode(), graph) == 4
    assert ops(graph) == ["Mul"] and list(graph.initializers) == ["read"] and graph.inputs == [x]


def test_what_a_branch_reads_stays() -> None:
    b = Builder()
    x = b.input("x")
    read = b.op("Add", x, b.constant("one", [1]))
    branches = {"then_branch": _branch("Neg", read), "else_branch": _branch("Abs", read)}
    graph = b.output(b.op("If", b.input("c", (), DType.BOOL), **branches))
    assert apply(RemoveDeadCode(), graph) == 0


def test_a_node_stays_for_any_of_its_outputs() -> None:
    b = Builder()
    _, places = b.node("TopK", b.input("x"), b.constant("k", [1], np.int64), outputs=2)
    assert apply(RemoveDeadCode(), b.output(places)) == 0


# --- the driver -------------------------------------------------------------------------------------------------------


class _Restless(GraphPass):
    name = "never content"

    def run(self, graph: Graph, context: PassContext) -> int:
        return 1


def test_passes_that_never_settle_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    b = Builder()
    with caplog.at_level(logging.WARNING, "mace.optimizer"):
        report = optimize(b.output(b.op("Neg", b.input("x"))), [_Restless()])
    assert report.changes["never content"] == 20 and "did not settle" in caplog.text


def test_bodies_are_simplified_too_and_told_that_they_are_bodies() -> None:
    seen = []

    class Looks(GraphPass):
        name = "look"

        def run(self, graph: Graph, context: PassContext) -> int:
            seen.append((graph.name, context.nested, context.opset_imports[""]))
            return 0

    b = Builder()
    x = b.input("x")
    branches = {"then_branch": _branch("Neg", x), "else_branch": _branch("Abs", x)}
    optimize(b.output(b.op("If", b.input("c", (), DType.BOOL), **branches)), [Looks()])
    assert seen == [("passes", False, 17), ("branch", True, 17), ("branch", True, 17)]
