"""One convolution or product in parts on several devices: the same results, whatever its form and the shares."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_stand_ins import make_provider, registry_of

from mace_core import Session
from mace_core.errors import UnsupportedError, UsageError
from mace_core.frontend.onnx.export import save_onnx
from mace_core.graph import Graph, Node, Value
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.scheduler.planning.pins import shares_of
from mace_core.scheduler.planning.splitting import shared_out
from mace_core.tensor import DType, MemoryKind, Tensor, TensorType

Array = npt.NDArray[Any]


class Builder:
    """A graph with random content, and what to feed it."""

    def __init__(self, seed: int, opset: int = 17) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("split")
        self.graph.opset_imports[""] = opset
        self.feeds: dict[str, Array] = {}

    def random(self, shape: tuple[int, ...]) -> Array:
        return (self.rng.integers(-8, 9, shape) / 8).astype(np.float32)

    def fed(self, array: Array) -> Value:
        value = Value(f"x{len(self.feeds)}", TensorType(DType.from_numpy(array.dtype), array.shape))
        self.graph.inputs.append(value)
        self.feeds[value.name] = array
        return value

    def constant(self, array: Array) -> Value:
        value = Value(f"c{len(self.graph.initializers)}", constant=Tensor.from_numpy(array))
        self.graph.initializers[value.name] = value
        return value

    def node(self, op: str, inputs: list[Value | None], name: str = "", **attributes: Any) -> Value:
        made = {
            key: Attribute(
                AttributeKind.FLOAT
                if isinstance(given, float)
                else AttributeKind.INTS
                if isinstance(given, tuple)
                else AttributeKind.INT,
                given,
            )
            for key, given in attributes.items()
        }
        result = Value(f"{name or op}{len(self.graph.nodes)}_out")
        self.graph.nodes.append(
            Node(op, inputs, [result], name=name or f"{op}{len(self.graph.nodes)}", attributes=made)
        )
        return result

    def done(self, *results: Value) -> Graph:
        self.graph.outputs = list(results)
        return self.graph


def conv(build: Builder, rng: random.Random) -> Value:
    rank, group = rng.choice([1, 2, 2, 3]), rng.choice([1, 1, 2, 3])
    channels, filters = group * rng.randint(1, 3), group * rng.randint(1, 4)
    kernel = tuple(rng.randint(1, 3) for _ in range(rank))
    spatial = tuple(rng.randint(5, 7) for _ in range(rank))
    data = build.random((rng.randint(1, 3), channels, *spatial))
    x = build.fed(data)
    weights = build.random((filters, channels // group, *kernel))
    weight = build.constant(weights) if rng.random() < 0.8 else build.fed(weights)
    bias = [build.constant(build.random((filters,)))] if rng.random() < 0.5 else []
    padding = {"pads": tuple(rng.randint(0, 1) for _ in range(2 * rank))} if rng.random() < 0.7 else {}
    strides, dilations = (tuple(rng.randint(1, 2) for _ in range(rank)) for _ in range(2))
    inputs: list[Value | None] = [x, weight, *bias]
    return build.node("Conv", inputs, "op", group=group, strides=strides, dilations=dilations, **padding)


def matmul(build: Builder, rng: random.Random) -> Value:
    depth = rng.randint(1, 5)
    batches = tuple(rng.randint(1, 3) for _ in range(rng.randint(0, 2)))
    left: tuple[int, ...] = (*batches, rng.randint(1, 4), depth) if rng.random() < 0.8 else (depth,)
    own = tuple(size if rng.random() < 0.6 else 1 for size in batches)[rng.randint(0, len(batches)) :]
    right: tuple[int, ...] = (*own, depth, rng.randint(1, 6)) if rng.random() < 0.85 else (depth,)
    sides = [build.random(left), build.random(right)]
    held = rng.choice(["right", "right", "left", "neither"])
    x = build.constant(sides[0]) if held == "left" else build.fed(sides[0])
    y = build.constant(sides[1]) if held == "right" else build.fed(sides[1])
    return build.node("MatMul", [x, y], "op")


def gemm(build: Builder, rng: random.Random) -> Value:
    rows, depth, columns = rng.randint(1, 5), rng.randint(1, 5), rng.randint(1, 6)
    flip, turn = rng.randint(0, 1), rng.randint(0, 1)
    x = build.fed(build.random((depth, rows) if flip else (rows, depth)))
    weight = build.constant(build.random((columns, depth) if turn else (depth, columns)))
    added = rng.choice([None, (), (1,), (columns,), (1, columns), (rows, columns), (rows, 1)])
    bias = [] if added is None else [build.constant(build.random(added))]
    inputs: list[Value | None] = [x, weight, *bias]
    return build.node("Gemm", inputs, "op", transA=flip, transB=turn, alpha=0.5, beta=2.0)


def behind(build: Builder, rng: random.Random, value: Value, shape: tuple[int, ...]) -> Value:
    """Element-wise operators that go along with the parts."""
    for _ in range(rng.randint(0, 2)):
        match rng.choice(["Relu", "Add", "Clip", "BatchNormalization", "Mul"]):
            case "Add":
                own = tuple(size if rng.random() < 0.7 else 1 for size in shape)[rng.randint(0, len(shape)) :]
                value = build.node("Add", [value, build.constant(build.random(own))])
            case "Mul":
                value = build.node("Mul", [build.constant(build.random((1,))), value])
            case "Clip":
                bounds = [build.constant(np.array(bound, np.float32)) for bound in (-0.5, 1.5)]
                value = build.node("Clip", [value, *bounds])
            case "BatchNormalization" if len(shape) > 1:
                scale, shift, mean = (build.constant(build.random((shape[1],))) for _ in range(3))
                variance = build.constant(np.abs(build.random((shape[1],))) + np.float32(0.5))
                value = build.node("BatchNormalization", [value, scale, shift, mean, variance])
            case _:
                value = build.node("Relu", [value])
    return value


FORMS = {"Conv": conv, "MatMul": matmul, "Gemm": gemm}


def shape_of(op: str, seed: int) -> tuple[int, ...]:
    """The shape of what a form computes: that of a run on the CPU."""
    build, rng = Builder(seed), random.Random(seed)
    graph = build.done(FORMS[op](build, rng))
    with Session(graph, devices=["reference"]) as session:
        return next(iter(session.run(build.feeds).values())).shape


def built(op: str, seed: int, shape: tuple[int, ...]) -> tuple[Graph, dict[str, Array]]:
    build, rng = Builder(seed), random.Random(seed)
    value = FORMS[op](build, rng)
    if rng.random() < 0.2:  # another reader: what is behind is not taken along
        return build.done(value, build.node("Neg", [value])), build.feeds
    return build.done(behind(build, rng, value, shape)), build.feeds


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(FORMS)),
    st.integers(0, 10**6),
    st.lists(st.sampled_from(["cpu", "acme:sim0", "reference"]), min_size=2, max_size=3, unique=True),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
def test_any_split_gives_the_results_of_the_whole(op: str, seed: int, devices: list[str], weights: list[float]) -> None:
    shape = shape_of(op, seed)
    graph, feeds = built(op, seed, shape)
    with Session(graph, devices=["reference"], optimize=False) as session:
        expected = session.run(feeds)
    graph, feeds = built(op, seed, shape)
    pin = " + ".join(f"{weight} * {device}" for weight, device in zip(weights, devices, strict=False))
    with Session(graph, devices=["cpu", "acme:sim0"], pins={"op": pin}, optimize=False) as session:
        found = session.run(feeds)
        text = str(session.explain())
    assert text.count("'op' is split: of its") + text.count("but not split: ") == 1
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


def quantized(build: Builder, op: str) -> Value:
    """Products of integers, with scales and zero points for each output channel or column."""
    rng = build.rng
    scales = build.constant((rng.integers(1, 9, 5) / 64).astype(np.float32))
    points = build.constant(np.zeros(5, np.int8))
    one, zero = build.constant(np.array(0.25, np.float32)), build.constant(np.array(3, np.uint8))
    is_conv = "Conv" in op
    x = build.fed(rng.integers(0, 255, (1, 3, 6, 6) if is_conv else (4, 3)).astype(np.uint8))
    weights = build.constant(rng.integers(-99, 99, (5, 3, 3, 3) if is_conv else (3, 5)).astype(np.int8))
    bias = build.constant(rng.integers(-99, 99, 5).astype(np.int32))
    match op:
        case "ConvInteger" | "MatMulInteger":
            return build.node(op, [x, weights, zero, *([] if is_conv else [points])], "op")
        case "QLinearConv":
            return build.node(op, [x, one, zero, weights, scales, points, one, zero, bias], "op")
        case "QLinearMatMul":
            return build.node(op, [x, one, zero, weights, scales, points, one, zero], "op")
        case "QDQ Conv":
            data = build.node("DequantizeLinear", [x, one, zero])
            weight = build.node("DequantizeLinear", [weights, scales, points], axis=0)
            shift = build.node("DequantizeLinear", [bias, build.constant(np.full(5, 0.25, np.float32))], axis=0)
            found = build.node("Relu", [build.node("Conv", [data, weight, shift], "op")])
            return build.node("QuantizeLinear", [found, one, zero])
    raise AssertionError(op)


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QDQ Conv"])
def test_scales_and_zero_points_go_with_their_channels(op: str) -> None:
    found = []
    for pins in (None, {"op": "2 * cpu + 3 * reference"}):
        build = Builder(1)
        graph = build.done(quantized(build, op))
        with Session(graph, devices=["cpu"], pins=pins, optimize=False) as session:
            found.append(session.run(build.feeds))
            explanation = session.explain()
    assert "is split: of its 5" in str(explanation)
    assert sum("[2:5]" in entry.node for entry in explanation.nodes if entry.device == "reference:0") >= 1
    for name, array in found[0].items():  # the reference rounds quantized results in another way than the CPU
        np.testing.assert_allclose(found[1][name], array.astype(np.int64), rtol=0, atol=array.dtype == np.uint8)
    if op == "QDQ Conv":  # each part is one convolution of integers: nothing of it is left outside
        outside = [entry.node for entry in explanation.nodes if "[" not in entry.node]
        assert outside == ["op/join"]


def test_a_node_that_cannot_be_split_says_why_and_runs_whole() -> None:
    build = Builder(1)
    graph = build.done(build.node("Softmax", [build.fed(build.random((2, 4)))], "op"))
    with Session(graph, devices=["cpu"], pins={"op": "cpu + reference"}) as session:
        (entry,) = session.explain().nodes
        assert entry.device == "cpu:0"
        assert "not split: Softmax is not computed in parts" in entry.reason


@pytest.mark.parametrize(
    ("pin", "words"),
    [
        ("cpu +", "is no device"),
        ("-1 * cpu + opencl", "is no device"),
        ("x * cpu + opencl", "is no device"),
        ("2 * cpu", "to one device"),
        ("cpu + cpu", "twice"),
        ("cpu + cpu:0", "twice"),
        ("2 * cpu + reference", "of all, or of none"),
    ],
)
def test_a_pin_of_another_form_is_refused(pin: str, words: str) -> None:
    build = Builder(1)
    with pytest.raises(UsageError, match=words):
        Session(build.done(matmul(build, random.Random(1))), devices=["cpu"], pins={"op": pin})


@given(st.integers(2, 300), st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=4))
def test_units_are_shared_out_in_proportion(units: int, weights: list[float]) -> None:
    units = max(units, len(weights))
    found = shared_out(units, weights)
    assert sum(found) == units and min(found) >= 1
    exact = [units * weight / sum(weights) for weight in weights]
    assert all(abs(a - b) < len(weights) for a, b in zip(found, exact, strict=True))


def test_another_share_finds_nothing_of_this_one_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stored of parts (shapes, what was compiled) is found under names of nodes."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    build = Builder(1)
    weights, bias = build.random((6, 3, 2, 2)), build.constant(build.random((6,)))
    value = build.node("Conv", [build.fed(build.random((2, 3, 5, 5))), build.constant(weights), bias], "op")
    save_onnx(build.done(build.node("Relu", [value])), path := tmp_path / "model.onnx")
    with Session(path, devices=["cpu"]) as session:
        expected = session.run(build.feeds)
    weighted = ("5 * cpu + 1 * acme:sim0", "1 * cpu + 5 * acme:sim0", "1 * acme:sim0 + 5 * cpu", "reference + cpu")
    for pin in weighted:
        for _ in range(2):
            with Session(path, devices=["cpu"], pins={"op": pin}) as session:
                for name, array in session.run(build.feeds).items():
                    np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


def test_where_a_device_fails_the_node_is_computed_whole() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE, claims={"MatMul"})
    build = Builder(1)
    product = build.node("MatMul", [build.fed(build.random((4, 3))), build.constant(build.random((3, 6)))], "op")
    graph = build.done(product)
    registry = registry_of(far)
    with Session(graph, devices=["reference"], pins={"op": "far + reference"}, registry=registry) as session:
        (expected,) = session.run(build.feeds).values()
        assert "3 on far:0, 3 on reference:0" in str(session.explain())
        far.faults += [UnsupportedError("a defect")] * 3
        (found,) = session.run(build.feeds).values()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_shares_of_a_pin() -> None:
    assert shares_of("cpu:0") == [("cpu:0", None)]
    assert shares_of("3 * cpu + 1*opencl:0") == [("cpu", 3.0), ("opencl:0", 1.0)]


def test_another_shape_is_split_as_well() -> None:
    """Sizes that are not decided would leave nothing to share out."""
    build = Builder(1)
    x = Value("x", TensorType(DType.FLOAT32, (None, 3)))
    build.graph.inputs.append(x)
    weights = build.random((3, 4))
    graph = build.done(build.node("MatMul", [x, build.constant(weights)], "op"))
    with Session(graph, devices=["cpu"], pins={"op": "cpu + reference"}) as session:
        for rows in (2, 3, 5):
            data = build.random((rows, 3))
            (found,) = session.run({"x": data}).values()
            np.testing.assert_allclose(found, data @ weights, rtol=1e-6)
            assert "2 on cpu:0, 2 on reference:0" in str(session.explain())
