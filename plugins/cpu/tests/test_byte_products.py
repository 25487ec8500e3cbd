"""Products of bytes: exact in every instruction set, requantized as onnxruntime does it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from harness import BYTE_FEATURES, Ran, check_node, check_nodes, make_model, make_view, run_view
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

Array = npt.NDArray[Any]
MASKS = BYTE_FEATURES
BYTES = ("uint8", "int8")


def whole(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Bytes, among them both ends of the range."""
    limits = np.iinfo(kind)
    found = rng.integers(limits.min, limits.max + 1, shape).astype(kind)
    found.reshape(-1)[: found.size // 3] = limits.max
    return found


def exact(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """The int32 sums, by numpy's int64."""
    left, right = (x.astype(np.int64) - (0 if z is None else z.astype(np.int64)) for x, z in ((a, a_zero), (b, b_zero)))
    return (left @ right).astype(np.int32)


shapes = st.one_of(
    st.tuples(st.just(()), st.just(())),
    st.tuples(st.just((3,)), st.just(())),
    st.tuples(st.just((2,)), st.just((2,))),
    st.tuples(st.just((2, 1)), st.just((3,))),
    st.tuples(st.just(()), st.just((2,))),
)


@given(
    batches=shapes,
    m=st.integers(1, 20),
    k=st.integers(1, 70),
    n=st.integers(1, 80),
    left=st.sampled_from(BYTES),
    right=st.sampled_from(BYTES),
    zeros=st.sampled_from(["none", "single", "column"]),
    known=st.sampled_from(["nothing", "weights", "all"]),
    features=st.sampled_from(MASKS),
    threads=st.sampled_from([1, 2]),
    seed=st.integers(0, 99),
)
@settings(max_examples=120, deadline=None)
def test_sums_are_exact(
    batches: tuple[tuple[int, ...], tuple[int, ...]],
    m: int,
    k: int,
    n: int,
    left: str,
    right: str,
    zeros: str,
    known: str,
    features: str | None,
    threads: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    a, b = whole(rng, left, (*batches[0], m, k)), whole(rng, right, (*batches[1], k, n))
    a_zero = None if zeros == "none" else whole(rng, left, ())
    b_zero = None if zeros == "none" else whole(rng, right, () if zeros == "single" else (n,))
    inputs = {"a": a, "b": b, "az": a_zero, "bz": b_zero}
    constants = {"nothing": (), "weights": ("b", "bz"), "all": ("b", "bz", "az")}[known]
    constants = tuple(name for name in constants if inputs[name] is not None)
    expected = [exact(a, b, a_zero, b_zero)]
    ran = check_node(
        "MatMulInteger", inputs, constants=constants, expected=expected, features=features, threads=threads
    )
    assert any("int8" in step for step in ran.steps), ran.steps


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("right", BYTES)
@pytest.mark.parametrize("left", BYTES)
def test_the_largest_sums(left: str, right: str, features: str | None) -> None:
    """Every product as large as it can be: no instruction saturates on the way."""
    for sign in (1, -1):
        a = np.full((7, 1021), np.iinfo(left).max if sign > 0 else np.iinfo(left).min, left)
        b = np.full((1021, 70), np.iinfo(right).max, right)
        zero = np.array(np.iinfo(right).min, right)
        inputs = {"a": a, "b": b, "az": np.array(np.iinfo(left).min, left), "bz": zero}
        expected = [exact(a, b, inputs["az"], zero)]
        check_node("MatMulInteger", inputs, constants=("b", "bz"), expected=expected, features=features)


def requantized(m: int, k: int, n: int, left: str, right: str, out: str, per_column: bool, **how: Any) -> Ran:
    """A QLinearMatMul with known weights beside onnxruntime, bit by bit."""
    rng = np.random.default_rng(m + k + n)
    count = (n,) if per_column else ()
    inputs = {
        "a": whole(rng, left, (m, k)),
        "as": np.array(0.02, np.float32),
        "az": whole(rng, left, ()),
        "b": whole(rng, right, (k, n)),
        "bs": (rng.random(count) / 40 + 0.01).astype(np.float32),
        "bz": np.zeros(count, right) if right == "int8" else np.full(count, 128, right),
        "ys": np.array(0.9, np.float32),
        "yz": np.array(np.iinfo(out).max - 100, out),
    }
    how = {"constants": [name for name in inputs if name != "a"], "oracle": "onnxruntime", **how}
    return check_node("QLinearMatMul", inputs, **how)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "out"), [("uint8", "int8", "uint8"), ("uint8", "uint8", "uint8"), ("int8", "int8", "int8")]
)
def test_results_are_bit_exact_with_onnxruntime(
    left: str, right: str, out: str, per_column: bool, features: str | None
) -> None:
    for m, k, n in ((1, 33, 64), (9, 130, 70), (40, 64, 128)):
        requantized(m, k, n, left, right, out, per_column, features=features, threads=2)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_activations_times_activations(batch: tuple[int, ...]) -> None:
    """As in attention: both operands are computed, one of them transposed."""
    rng = np.random.default_rng(4)
    q, k = whole(rng, "uint8", (*batch, 17, 24)), whole(rng, "uint8", (*batch, 19, 24))
    order = [*range(len(batch)), len(batch) + 1, len(batch)]
    scale, zero = np.array(0.01, np.float32), np.array(117, np.uint8)
    result_scale = np.array(0.8, np.float32)
    nodes = [
        helper.make_node("Transpose", ["k"], ["t"], perm=order),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "t", "s", "z", "ys", "z"], ["y"]),
    ]
    inputs = {"q": q, "k": k, "s": scale, "z": zero, "ys": result_scale}
    ran = check_nodes(nodes, inputs, ["y"], constants=["s", "z", "ys"], oracle="onnxruntime", threads=2)
    assert not any("Transpose" in step for step in ran.steps)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("right", BYTES)
def test_dynamic_quantization_is_one_product(right: str, per_column: bool) -> None:
    """Scales that the run brings, a bias and an activation are part of the product."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((5, 48)).astype(np.float32), whole(rng, right, (48, 30))
    count = (30,) if per_column else ()
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "as", "az"]),
        helper.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as", "bs"], ["scale"]),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["y"]),
    ]
    inputs = {
        "x": a,
        "b": b,
        "bz": np.full(count, 3, right),
        "bs": (rng.random(count) / 50 + 0.01).astype(np.float32),
        "bias": rng.standard_normal(30).astype(np.float32),
    }
    constants = ["b", "bz", "bs", "bias"]
    ran = check_nodes(nodes, inputs, ["y"], constants=constants, oracle="onnxruntime", tol=1e-5)
    products = [step for step in ran.steps if "MatMulInteger" in step]
    assert len(products) == 1 and "Relu" in products[0], ran.steps
    assert "DynamicQuantizeLinear" in ran.steps


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("size", [1, 5, 4096, 10_007])
def test_ranges_found_at_run_time(size: int, features: str | None) -> None:
    rng = np.random.default_rng(size)
    x = rng.standard_normal(size).astype(np.float32)
    for data in (x, np.abs(x) + 1, -np.abs(x), np.zeros_like(x)):
        how: dict[str, Any] = {"oracle": "onnxruntime", "features": features, "threads": 2, "tol": 0}
        check_node("DynamicQuantizeLinear", {"x": data}, outputs=3, **how)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_nothing_to_multiply(m: int, k: int, n: int) -> None:
    a, b = np.ones((m, k), np.uint8), np.ones((k, n), np.int8)
    for constants in ((), ("b",)):
        check_node("MatMulInteger", {"a": a, "b": b}, constants=constants, expected=[exact(a, b, None, None)])


def test_a_known_left_operand() -> None:
    rng = np.random.default_rng(0)
    a, b = whole(rng, "int8", (5, 9)), whole(rng, "uint8", (2, 9, 7))
    check_node("MatMulInteger", {"a": a, "b": b}, constants=("a",), expected=[exact(a, b, None, None)])


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("kind", BYTES)
def test_sums_and_tables_behind_a_product_change_no_bit(kind: str, features: str | None) -> None:
    """A bias and a residual added in steps of their own, and a table: fused, they give what separate nodes give."""
    rng = np.random.default_rng(1)
    low = np.iinfo(kind).min
    numbers: dict[str, Array] = {
        "a": whole(rng, kind, (2, 9, 40)),
        "b": whole(rng, "int8", (40, 70)),
        "bias": whole(rng, "int8", (70,)),
        "other": whole(rng, "uint8", (2, 9, 70)),
        "s": np.array(0.05, np.float32),
        "t": np.array(1.3, np.float32),
        "z": np.array(low + 120, kind),
        "zb": np.array(0, np.int8),
        "zo": np.array(99, np.uint8),
    }
    constants = [name for name in numbers if name not in ("a", "other")]

    def linear(source: str, zero: str, target: str) -> Any:
        return helper.make_node("DequantizeLinear", [source, "s" if source == "a" else "t", zero], [target])

    nodes = [
        linear("a", "z", "af"),
        helper.make_node("DequantizeLinear", ["b", "s", "zb"], ["bf"]),
        helper.make_node("MatMul", ["af", "bf"], ["pf"]),
        helper.make_node("QuantizeLinear", ["pf", "t", "z"], ["p"]),
        linear("p", "z", "pg"),
        linear("bias", "zb", "biasf"),
        helper.make_node("Add", ["pg", "biasf"], ["qf"]),
        helper.make_node("QuantizeLinear", ["qf", "t", "z"], ["q"]),
        linear("q", "z", "qg"),
        linear("other", "zo", "otherf"),
        helper.make_node("Add", ["otherf", "qg"], ["rf"]),
        helper.make_node("QuantizeLinear", ["rf", "t", "z"], ["r"]),
        linear("r", "z", "rg"),
        helper.make_node("Sigmoid", ["rg"], ["yf"]),
        helper.make_node("QuantizeLinear", ["yf", "s", "z"], ["y"]),
    ]
    for number, node in enumerate(nodes):
        node.name = f"node{number}"
    apart = run_nodes(nodes, numbers, ["p", "q", "r", "y"], constants, features)
    together = run_nodes(nodes, numbers, ["y"], constants, features)
    assert len(together.steps) == 1, together.steps
    np.testing.assert_array_equal(together.outputs["y"], apart.outputs["y"])


def run_nodes(
    nodes: list[Any], arrays: dict[str, Array], outputs: list[str], constants: list[str], features: str | None
) -> Ran:
    """Run nodes as one subgraph, beside onnxruntime without its optimizations: at most one step apart."""
    import onnxruntime

    every = [name for node in nodes for name in node.output]
    model = make_model(nodes, arrays, every, 21, constants)
    feeds = {name: array for name, array in arrays.items() if name not in constants}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    inferred = onnx.shape_inference.infer_shapes(model).SerializeToString()
    session = onnxruntime.InferenceSession(inferred, options, ["CPUExecutionProvider"])
    found = dict(zip(every, session.run(None, feeds), strict=True))
    ran = run_view(make_view(model, arrays, found, outputs), feeds, features=features, threads=2)
    for name in outputs:
        apart = np.abs(ran.outputs[name].astype(int) - found[name].astype(int))
        assert apart.max() <= 1 and (apart > 0).mean() < 0.01
    return ran
