"""Bytes times known bytes on the float32 kernels: every sum is exact, however large the weights are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import FEATURES, check_node, run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.lower_whole import LARGEST_WHOLE, _digits, _parts
from onnx import TensorProto, helper, numpy_helper, save

from mace_core import Session

RNG = np.random.default_rng(11)


Make = Callable[..., np.ndarray]


def integers(dtype: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


def extreme(dtype: str, *shape: int) -> np.ndarray:
    """All at one end, so that sums are as large as they can be."""
    return np.full(shape, np.iinfo(dtype).max if dtype == "uint8" else np.iinfo(dtype).min, dtype)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(("left", "right"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("make", [integers, extreme])
def test_sums_of_a_thousand_products_are_exact(left: str, right: str, make: Make, features: str | None) -> None:
    a, b = make(left, 2, 5, 1030), make(right, 1030, 37)
    wide = a.astype(np.int32) @ b.astype(np.int32)
    check_node("MatMulInteger", [a, b], constants=["x1"], expected=[wide], features=features, threads=2)


@settings(max_examples=15)
@given(st.data())
def test_products_with_known_weights_and_zero_points(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 40))
    depth = data.draw(st.sampled_from([1, 7, 255, 256, 257, 600]))
    kind = data.draw(st.sampled_from(["int8", "uint8"]))
    a, b = integers("uint8", rows, depth), integers(kind, depth, columns)
    a_zero = data.draw(st.sampled_from([None, np.array(200, np.uint8)]))
    b_zero = data.draw(st.sampled_from([None, np.array(7, kind), integers(kind, columns)]))
    steps = [
        x.astype(np.int32) - (0 if zero is None else zero.astype(np.int32)) for x, zero in ((a, a_zero), (b, b_zero))
    ]
    known = ["x1"] if b_zero is None else ["x1", "x3"]
    check_node("MatMulInteger", [a, b, a_zero, b_zero], constants=known, expected=[steps[0] @ steps[1]])


@pytest.mark.parametrize("make", [integers, extreme])
@pytest.mark.parametrize(
    ("shape", "weights", "attributes"),
    [
        ((1, 64, 9, 11), (24, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((2, 16, 12, 12), (16, 1, 5, 5), {"group": 16, "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((1, 3, 16, 16), (8, 3, 3, 3), {"dilations": [2, 2]}),
        ((1, 20, 50), (10, 20, 3), {"pads": [1, 1]}),
    ],
)
def test_convolutions_of_bytes_are_exact(
    make: Make, shape: tuple[int, ...], weights: tuple[int, ...], attributes: dict[str, object]
) -> None:
    x, w = make("uint8", *shape), make("int8", *weights)
    zeros = [np.array(130, np.uint8), integers("int8", weights[0])]
    options = {"constants": ["x1", "x3"], "oracle": "onnxruntime", "threads": 2}
    check_node("ConvInteger", [x, w, zeros[0], np.zeros(1, np.int8)], attributes, opset=10, **options)
    scales = [np.float32(0.02), (RNG.random(weights[0]) / 50 + 0.01).astype(np.float32), np.float32(0.4)]
    bias = RNG.integers(-9000, 9000, weights[0]).astype(np.int32)
    inputs = [x, scales[0], zeros[0], w, scales[1], np.zeros_like(zeros[1]), scales[2], np.array(120, np.uint8), bias]
    check_node("QLinearConv", inputs, attributes, opset=10, **{**options, "constants": ["x3", "x4", "x5", "x8"]})


def test_a_conversion_to_float_joins_the_product(tmp_path: Path) -> None:
    weights = integers("int8", 300, 20)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["y"]),
    ]
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, size]) for n, size in (("x", 300), ("y", 20))]
    graph = helper.make_graph(nodes, "dynamic", made[:1], made[1:], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = str(tmp_path / "dynamic.onnx")
    save(model, path)
    feeds = {"x": RNG.standard_normal((4, 300)).astype(np.float32)}
    run_model(path, feeds, tol=1e-6)
    with Session(path, devices=["cpu"], strict=True) as session:
        steps = [span.name for span in session.profile(feeds).spans]
    assert any(step.startswith("MatMulInteger+Cast") for step in steps), steps


@pytest.mark.parametrize("depth", [1, 256, 257, 5000])
def test_no_partial_sum_can_be_rounded(depth: int) -> None:
    weights = RNG.integers(-255, 256, (depth, 6)).astype(np.int16)
    ends = _parts(weights)
    assert ends[-1] == depth
    for begin, end in zip([0, *ends], ends, strict=False):
        assert begin < end
        assert 255 * np.abs(weights[begin:end].astype(int)).sum(axis=0).max() <= LARGEST_WHOLE
    if depth == 5000:
        digits = _digits(weights.reshape(6, depth))
        whole = digits[0].astype(int) * 16 + digits[1] if len(digits) == 2 else digits[0]
        np.testing.assert_array_equal(whole, weights.reshape(6, depth))
        assert len(digits) == 2
