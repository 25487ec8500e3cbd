"""Operators whose output shape depends on the data."""

from __future__ import annotations

import numpy as np
import pytest
from harness import FEATURES, check_node, check_nodes, rejection, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from mace_core.tensor import DType

DTYPES = ["float32", "float64", "int8", "int64", "uint16", "bool"]


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
def test_non_zero_of_every_element_type(dtype: str) -> None:
    x = sample((3, 4, 5), dtype)
    check_node("NonZero", [x])
    check_node("NonZero", [np.zeros((2, 3), dtype)])
    check_node("NonZero", [np.zeros((0, 3), dtype)])


def test_zeros_of_both_signs_are_zero_and_nan_is_not() -> None:
    check_node("NonZero", [np.array([0.0, -0.0, np.nan, 1e-45], np.float32)], expected=[np.array([[2, 3]])])
    check_node("NonZero", [np.array([0.0, -0.0, np.nan, 1.0], np.float16)], expected=[np.array([[2, 3]])])


@pytest.mark.parametrize("features", FEATURES)
def test_non_zero_on_every_instruction_set(features: str | None) -> None:
    check_node("NonZero", [sample((9, 7))], features=features)


@settings(max_examples=25)
@given(st.data())
def test_compress_with_a_condition_known_at_run_time(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    size = int(np.prod(shape)) if axis is None else shape[axis]
    condition = np.array(data.draw(st.lists(st.booleans(), max_size=size)), bool)
    x = sample(shape, data.draw(st.sampled_from(DTYPES)))
    expected = np.compress(condition, x.reshape(-1) if axis is None else x, 0 if axis is None else axis)
    attributes = {} if axis is None else {"axis": axis}
    check_node("Compress", [x, condition], attributes, expected=[expected])


def boxes_and_scores(count: int, classes: int = 2, batches: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    corners = rng.random((batches, count, 4)).astype(np.float32) * 10
    return [corners, rng.random((batches, classes, count)).astype(np.float32)]


@pytest.mark.parametrize("count", [0, 1, 7, 60])
@pytest.mark.parametrize("center", [0, 1])
def test_suppression_agrees_with_onnxruntime(count: int, center: int) -> None:
    limits = [np.array([5]), np.array([0.3], np.float32), np.array([0.4], np.float32)]
    feeds = [*boxes_and_scores(count), *limits]
    check_node("NonMaxSuppression", feeds, {"center_point_box": center}, oracle="onnxruntime")
    named = {f"x{i}": array for i, array in enumerate(feeds)}
    check_node("NonMaxSuppression", named, constants=["x2", "x3", "x4"], oracle="onnxruntime")


def test_suppression_without_limits_selects_nothing_and_with_a_limit_alone_ignores_low_scores() -> None:
    boxes, scores = boxes_and_scores(9)
    check_node("NonMaxSuppression", [boxes, scores], expected=[np.zeros((0, 3), np.int64)])
    check_node("NonMaxSuppression", [boxes, -scores, np.array([4])], oracle="onnxruntime")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64"])
@pytest.mark.parametrize("in_order", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique(dtype: str, in_order: int, axis: int | None) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (4, 3, 5)).astype(dtype)
    x[2] = x[0]
    attributes: dict[str, int] = {"sorted": in_order} | ({} if axis is None else {"axis": axis})
    # onnx.reference puts values in another order than their indices where they are not sorted
    check_node("Unique", [x], attributes, outputs=4, oracle="onnxruntime")
    check_node("Unique", [x], attributes, outputs=(True, False, True), oracle="onnxruntime")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_unique_of_half_precision(dtype: str) -> None:
    numbers = np.array([3, -1, 2, -1, 0, 3, -7]).astype(DType[dtype.upper()].numpy)
    expected = [np.array([-7, -1, 0, 2, 3]).astype(numbers.dtype), np.array([6, 1, 4, 2, 0])]
    check_node("Unique", [numbers], outputs=2, expected=expected)


@pytest.mark.parametrize("op", ["NonZero", "Compress", "Unique", "NonMaxSuppression"])
def test_results_of_unknown_size_outlive_every_later_step(op: str) -> None:
    """They are handed over when all steps have run; until then nothing else may lie in their memory."""
    rng = np.random.default_rng(5)
    feeds = {"a": rng.standard_normal((64, 64)).astype(np.float32)}
    feeds |= {
        "NonZero": {"x": (rng.random((16, 16)) < 0.5).astype(np.float32)},
        "Compress": {"x": sample((32, 32)), "which": rng.random(32) < 0.5},
        "Unique": {"x": rng.integers(0, 99, 512)},
        "NonMaxSuppression": dict(zip(["x", "scores"], boxes_and_scores(20), strict=True))
        | {"most": np.array([9]), "overlap": np.array([0.5], np.float32), "least": np.array([0.1], np.float32)},
    }[op]
    names = [name for name in feeds if name != "a"]
    attributes = {"axis": 0} if op == "Compress" else {}
    chain = [helper.make_node("MatMul", ["a" if i == 0 else f"p{i - 1}", "a"], [f"p{i}"]) for i in range(6)]
    nodes = [helper.make_node(op, names, ["found"], **attributes), *chain]
    ran = check_nodes(nodes, feeds, ["found", "p5"], oracle="onnxruntime", tol=1e-4)
    assert len(ran.steps) >= len(nodes), "the products are to be computed after the result of unknown size"


def test_strings_are_declined() -> None:
    assert "kernels take" in rejection("Unique", [np.array([1 + 2j])], [np.array([1 + 2j])])
