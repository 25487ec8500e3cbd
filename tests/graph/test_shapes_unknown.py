"""What cannot be known before the run is said so, with what would decide it; what cannot be is an error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from mace_core.errors import ModelError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.operators import (
    NodeContext,
    ShapeMismatchError,
    dump_resolution,
    load_resolution,
    register_shape_function,
    resolve,
)
from mace_core.tensor import DType, Tensor, TensorType, ValueType

F32, I64 = DType.FLOAT32, DType.INT64


def graph_of(body: str, opset: int = 21, extra: str = "") -> Graph:
    return load_model(parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}{extra}]> {body}'))


def value(graph: Graph, name: str) -> Value:
    """The value called ``name``, nested graphs included."""

    def search(inside: Graph) -> Value | None:
        for candidate in (*inside.inputs, *(o for n in inside.nodes for o in n.outputs if o is not None)):
            if candidate.name == name:
                return candidate
        for node in inside.nodes:
            for nested in node.subgraphs():
                if (found := search(nested)) is not None:
                    return found
        return None

    found = search(graph)
    assert found is not None, name
    return found


def run(graph: Graph, shapes: dict[str, tuple[int, ...]], **contents: Any) -> Resolution:
    types: dict[Value, ValueType] = {}
    for name, shape in shapes.items():
        given = value(graph, name)
        assert isinstance(given.type, TensorType)
        types[given] = TensorType(given.type.dtype, shape)
    return resolve(graph, types, {value(graph, n): Tensor.from_numpy(np.asarray(c)) for n, c in contents.items()})


def blocked(found: Resolution) -> dict[str, list[str]]:
    return {node.op_type: [v.name for v in inputs] for node, inputs in found.blocked.items()}


RESHAPE = "m (float[a,b] x, int64[r] s) => (float y, float z) { t = Relu(x) y = Reshape(t, s) z = Neg(y) }"


def test_a_reshape_to_a_run_time_shape_waits_for_that_shape() -> None:
    graph = graph_of(RESHAPE)
    found = run(graph, {"x": (4, 6), "s": (3,)})
    assert blocked(found) == {"Reshape": ["s"]}
    assert found.types[value(graph, "t")] == TensorType(F32, (4, 6))
    assert found.types[value(graph, "y")] == TensorType(F32, None)
    assert value(graph, "z") not in found.types


def test_the_content_of_the_shape_resolves_the_rest() -> None:
    graph = graph_of(RESHAPE)
    found = run(graph, {"x": (4, 6), "s": (3,)}, s=np.array([2, -1, 3]))
    assert found.blocked == {}
    assert found.types[value(graph, "z")] == TensorType(F32, (2, 4, 3))


def test_shape_arithmetic_follows_the_input() -> None:
    graph = graph_of(
        """m (float[n,c,h,w] x) => (float y) <int64[1] minus = {-1}, int64[1] zero = {0}, int64 first = {0}> {
            s = Shape(x)  n = Gather(s, first)  flat = Unsqueeze(n, zero)
            target = Concat<axis=0>(flat, minus)  y = Reshape(x, target) }"""
    )
    for shape in ((2, 3, 4, 5), (7, 1, 1, 3)):
        found = run(graph, {"x": shape})
        assert found.types[value(graph, "y")] == TensorType(F32, (shape[0], int(np.prod(shape[1:]))))
        assert found.known[value(graph, "s")].numpy().tolist() == list(shape)
        assert found.known[value(graph, "target")].numpy().tolist() == [shape[0], -1]


@pytest.mark.parametrize(
    ("body", "op", "waits_for"),
    [
        ("m (int64 a, int64 b, int64 c) => (int64[n] y) { y = Range(a, b, c) }", "Range", ["a", "b", "c"]),
        ("m (float[3] a, int64[r] b) => (float y) { y = Expand(a, b) }", "Expand", ["b"]),
        ("m (float[3] a, int64[1] b) => (float y, int64 i) { y, i = TopK(a, b) }", "TopK", ["b"]),
        ("m (float[3] a, int64[1] b, int64[1] c) => (float y) { y = Slice(a, b, c) }", "Slice", ["b", "c"]),
        ("m (float[3] a, int64[1] b) => (float y) { y = ReduceSum(a, b) }", "ReduceSum", ["b"]),
        ("m (float[3] a, bool[3] b) => (float y) { y = Compress<axis=0>(a, b) }", "Compress", []),
        ("m (float[3] a) => (int64 y) { y = NonZero(a) }", "NonZero", []),
        ("m (float[3] a) => (float y) { y = Unique(a) }", "Unique", []),
    ],
)
def test_blocked_nodes_name_the_contents_they_wait_for(body: str, op: str, waits_for: list[str]) -> None:
    graph = graph_of(body)
    shapes = {v.name: v.type.shape for v in graph.inputs}  # type: ignore[union-attr]
    found = run(graph, {n: tuple(2 if isinstance(d, str) else d for d in s) for n, s in shapes.items()})
    assert blocked(found) == {op: waits_for}
    for output in graph.outputs:
        assert found.types[output] == TensorType(output.type.dtype, None)  # type: ignore[union-attr]


def test_results_of_an_earlier_stage_take_the_place_of_their_producer() -> None:
    graph = graph_of("m (float[n] x) => (int64 z) <int64[1,c] y> { y = NonZero(x) t = Transpose(y) z = Neg(t) }")
    first = run(graph, {"x": (5,)})
    assert blocked(first) == {"NonZero": []}
    second = run(graph, {"x": (5,), "y": (1, 3)})
    assert second.blocked == {}
    assert second.types[value(graph, "z")] == TensorType(I64, (3, 1))


def test_an_operator_of_an_unknown_domain_is_left_to_the_run() -> None:
    graph = graph_of("m (float[2] x) => (float y) { t = acme.Blur(x) y = Relu(t) }", extra=', "acme": 1')
    assert blocked(run(graph, {"x": (2,)})) == {"Blur": []}


def test_a_registered_shape_function_answers_for_a_custom_operator() -> None:
    def doubled(ctx: NodeContext) -> list[ValueType | None]:
        if len(ctx.shape(0)) != 1:
            raise ShapeMismatchError("the input must have one axis")
        return [TensorType(ctx.dtype(0), (2 * ctx.shape(0)[0],))]

    register_shape_function("acme", "Twice", doubled)
    graph = graph_of("m (float[a] x) => (float y) { t = acme.Twice(x) y = Relu(t) }", extra=', "acme": 1')
    assert run(graph, {"x": (3,)}).types[value(graph, "y")] == TensorType(F32, (6,))
    with pytest.raises(ModelError, match=r"\(acme.Twice\) cannot take its inputs: the input must have one axis"):
        run(graph, {"x": (3, 1)})


def test_impossible_shapes_name_model_node_shapes_and_expectation() -> None:
    graph = graph_of("ocr (float[a,b] x, float[c,d] w) => (float y) { [product] y = MatMul(x, w) }")
    with pytest.raises(ModelError) as caught:
        run(graph, {"x": (2, 3), "w": (4, 5)})
    message = str(caught.value)
    for part in ("ocr", "'product' (MatMul)", "'x' float32[2, 3]", "'w' float32[4, 5]", "3 columns against 4 rows"):
        assert part in message


# --- nested graphs ---------------------------------------------------------------------------------------------------

BRANCHES = """m (float[a,b] x, bool c) => (float z) {
    y = If (c) <then_branch = t () => (float p) { p = Relu(x) },
                else_branch = e () => (float q) { q = Transpose(x) }>
    z = Neg(y) }"""


def test_if_takes_the_branch_of_a_known_condition() -> None:
    graph = graph_of(BRANCHES)
    assert run(graph, {"x": (2, 3), "c": ()}, c=True).types[value(graph, "z")] == TensorType(F32, (2, 3))
    assert run(graph, {"x": (2, 3), "c": ()}, c=False).types[value(graph, "z")] == TensorType(F32, (3, 2))


def test_if_with_branches_that_agree_needs_no_condition() -> None:
    graph = graph_of(BRANCHES)
    found = run(graph, {"x": (3, 3), "c": ()})
    assert found.blocked == {}
    assert found.types[value(graph, "z")] == TensorType(F32, (3, 3))
    assert found.types[value(graph, "q")] == TensorType(F32, (3, 3))


def test_if_with_branches_that_differ_waits_for_the_condition() -> None:
    graph = graph_of(BRANCHES)
    found = run(graph, {"x": (2, 3), "c": ()})
    assert blocked(found) == {"If": ["c"]}
    assert found.types[value(graph, "y")] == TensorType(F32, None)


def test_a_branch_that_may_never_be_taken_is_no_error() -> None:
    graph = graph_of(
        """m (float[a,b] x, float[b,d] w, bool c) => (float y) {
            y = If (c) <then_branch = t () => (float p) { p = MatMul(x, w) },
                        else_branch = e () => (float q) { q = Relu(x) }> }"""
    )
    shapes = {"x": (2, 3), "w": (4, 5), "c": ()}
    assert blocked(run(graph, shapes)) == {"If": ["c"]}
    assert run(graph, shapes, c=False).types[value(graph, "y")] == TensorType(F32, (2, 3))
    with pytest.raises(ModelError, match="3 columns against 4 rows"):
        run(graph, shapes, c=True)


LOOP = """m (int64 n, float[a] x) => (float last, float all) <bool yes = {{1}}> {{
    last, all = Loop (n, yes, x) <body = b (int64 i, bool go, float[a] h) => (bool again, float next, float row) {{
        again = Identity(go)  next = {step}  row = Neg(h) }}> }}"""


def test_a_loop_that_keeps_its_shapes_needs_only_the_number_of_iterations() -> None:
    graph = graph_of(LOOP.format(step="Add(h, x)"))
    assert blocked(run(graph, {"n": (), "x": (4,)})) == {"Loop": ["n"]}
    found = run(graph, {"n": (), "x": (4,)}, n=7)
    assert found.types[value(graph, "last")] == TensorType(F32, (4,))
    assert found.types[value(graph, "all")] == TensorType(F32, (7, 4))
    assert found.types[value(graph, "row")] == TensorType(F32, (4,))


def test_a_loop_that_grows_its_values_is_left_to_the_run() -> None:
    graph = graph_of(LOOP.format(step="Concat<axis=0>(h, x)"))
    found = run(graph, {"n": (), "x": (4,)}, n=7)
    assert blocked(found) == {"Loop": []}
    assert found.types[value(graph, "last")] == TensorType(F32, None)
    assert value(graph, "row") not in found.types, "what holds for one iteration only is not reported"


def test_a_scan_gives_one_row_for_each_step() -> None:
    graph = graph_of(
        """m (float[a] h, float[t,a] x) => (float last, float all) {
            last, all = Scan <num_scan_inputs = 1, body = b (float[a] s, float[a] r) => (float s2, float o) {
                s2 = Add(s, r)  o = Relu(s2) }> (h, x) }"""
    )
    found = run(graph, {"h": (4,), "x": (9, 4)})
    assert found.types[value(graph, "last")] == TensorType(F32, (4,))
    assert found.types[value(graph, "all")] == TensorType(F32, (9, 4))


def test_a_body_resolves_by_itself_with_the_types_of_what_it_captures() -> None:
    graph = graph_of(BRANCHES)
    branch = next(node.attr("else_branch") for node in graph.nodes if node.op_type == "If")
    captured = {value(graph, "x"): TensorType(F32, (2, 3))}
    found = resolve(branch, captured, opset_imports=graph.opset_imports)
    assert found.types[branch.outputs[0]] == TensorType(F32, (3, 2))


# --- stored resolutions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [RESHAPE, BRANCHES, LOOP.format(step="Add(h, x)")])
def test_a_resolution_survives_storage_with_nested_graphs_and_blocked_nodes(body: str) -> None:
    graph, again = graph_of(body), graph_of(body)
    found = run(graph, {v.name: (3,) * len(v.type.shape) for v in graph.inputs})  # type: ignore[union-attr, arg-type]
    loaded = load_resolution(again, dump_resolution(graph, found))
    assert {v.name: t for v, t in found.types.items()} == {v.name: t for v, t in loaded.types.items()}
    assert {v.name: t.numpy().tolist() for v, t in found.known.items()} == {
        v.name: t.numpy().tolist() for v, t in loaded.known.items()
    }
    assert {n.name: [v.name for v in vs] for n, vs in found.blocked.items()} == {
        n.name: [v.name for v in vs] for n, vs in loaded.blocked.items()
    }
    assert all(loaded.types[value(again, v.name)] == t for v, t in found.types.items() if v.constant is None)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 0}', b'{"format": 1}', b"\xff\xfe", b"[]"])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    with pytest.raises(ValueError, match="resolution"):
        load_resolution(graph_of(RESHAPE), damage)


def test_the_resolution_of_another_graph_is_refused() -> None:
    graph = graph_of(RESHAPE)
    stored = dump_resolution(graph, run(graph, {"x": (4, 6), "s": (3,)}))
    with pytest.raises(ValueError, match="does not fit this graph"):
        load_resolution(graph_of("m (float[a] u) => (float v) { v = Relu(u) }"), stored)


def test_common_operators_are_resolved_without_the_onnx_library() -> None:
    import subprocess
    import sys

    script = (
        "import sys\n"
        "from mace_core.graph import Graph, Node, Value\n"
        "from mace_core.operators import resolve, dump_resolution, load_resolution\n"
        "from mace_core.tensor import DType, TensorType\n"
        "g = Graph('g'); g.opset_imports = {'': 20}; x, y = Value('x'), Value('y')\n"
        "g.inputs, g.outputs = [x], [y]; g.nodes.append(Node('Softmax', [x], [y], name='n'))\n"
        "r = resolve(g, {x: TensorType(DType.FLOAT32, (2, 3))})\n"
        "assert load_resolution(g, dump_resolution(g, r)).types[y].shape == (2, 3)\n"
        "assert not {'onnx', 'numba', 'llvmlite'} & set(sys.modules), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)


def test_a_graph_built_by_hand_with_repeated_names_can_be_stored() -> None:
    graph = Graph("g")
    graph.opset_imports = {"": 20}
    first, middle, last = Value("v"), Value("v"), Value("v")
    graph.inputs, graph.outputs = [first], [last]
    graph.nodes = [Node("Shape", [first], [middle], name="n"), Node("Neg", [middle], [last], name="n")]
    found = resolve(graph, {first: TensorType(F32, (2, 5))})
    loaded = load_resolution(graph, dump_resolution(graph, found))
    assert loaded.types == found.types
    assert loaded.known[last].numpy().tolist() == [-2, -5]
