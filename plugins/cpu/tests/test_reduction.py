"""The Reduce operators, ArgMax and ArgMin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Array, check_node, sample
from hypothesis import given, settings
from hypothesis import strategies as st

REDUCES = [
    "ReduceSum", "ReduceMean", "ReduceProd", "ReduceMax", "ReduceMin",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
]  # fmt: skip


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    """Positive and of the order of one, so that products and logarithms stay tame."""
    rng = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        return rng.uniform(0.5, 1.5, shape).astype(dtype)
    return rng.integers(1, 4, shape).astype(dtype)


OF_WHOLE_NUMBERS = ("ReduceSum", "ReduceMax", "ReduceLogSumExp")
"""One for each way of accumulating; the rest of the operators on whole numbers are in the slow tier."""

PAIRS = [
    *((op, dtype) for op in REDUCES for dtype in ("float32", "int32")),
    *((op, dtype) for op in ("ReduceSum", "ReduceMean", "ReduceL2") for dtype in ("float64", "int64", "uint32")),
]


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, dtype, marks=[] if dtype == "float32" or op in OF_WHOLE_NUMBERS else [pytest.mark.full])
        for op, dtype in PAIRS
    ],
)
def test_reduce_rows_and_columns(op: str, dtype: str) -> None:
    for shape, axes in [
        ((3, 5, 7), [1]),
        ((3, 5, 150), [0]),
        ((2, 3, 4, 5), [1, 3]),
        ((2, 3, 4, 5), [0, 2]),
    ]:
        x = numbers(shape, dtype)
        if op == "ReduceProd":
            x = np.minimum(x, 2).astype(dtype)
        # onnx.reference declines logarithms of integers, and widens some integer results
        wanted = None if np.dtype(dtype).kind == "f" else [in_float64(op, x, tuple(axes)).astype(dtype)]
        feeds = {"x": x, "a": np.array(axes)}
        check_node(op, feeds, {"keepdims": 0}, constants=["a"], opset=18, expected=wanted)


def in_float64(op: str, x: Array, axes: tuple[int, ...]) -> Array:
    """The exact result for small integers, before it is cut to an integer."""
    x = x.astype(np.float64)
    formulas: dict[str, Any] = {
        "ReduceSum": lambda: x.sum(axes), "ReduceMean": lambda: x.mean(axes), "ReduceProd": lambda: x.prod(axes),
        "ReduceMax": lambda: x.max(axes), "ReduceMin": lambda: x.min(axes), "ReduceL1": lambda: np.abs(x).sum(axes),
        "ReduceL2": lambda: np.sqrt((x * x).sum(axes)), "ReduceLogSum": lambda: np.log(x.sum(axes)),
        "ReduceLogSumExp": lambda: np.log(np.exp(x).sum(axes)), "ReduceSumSquare": lambda: (x * x).sum(axes),
    }  # fmt: skip
    return np.asarray(formulas[op]())


@settings(max_examples=40)
@given(st.data())
def test_sums_over_any_set_of_axes(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 6), max_size=5))
    axes = (
        data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape)))
        if shape
        else []
    )
    keep = data.draw(st.integers(0, 1))
    feeds = {"x": numbers(tuple(shape)), "a": np.array(axes, np.int64)}
    for op in ("ReduceSum", "ReduceMax"):
        whole = tuple(axes) if axes else None
        function: Any = np.sum if op == "ReduceSum" else np.max
        start = {} if op == "ReduceSum" else {"initial": -np.inf}
        wanted = np.asarray(function(feeds["x"], axis=whole, keepdims=bool(keep), **start), np.float32)
        check_node(op, feeds, {"keepdims": keep}, constants=["a"], opset=18, expected=[wanted])


@pytest.mark.parametrize("op", REDUCES)
def test_axes_as_an_attribute_and_all_axes(op: str) -> None:
    x = numbers((3, 4, 5))
    check_node(op, [x], {"axes": [-1, 0]}, opset=11)
    check_node(op, [x], opset=11)
    check_node(op, [x], {"keepdims": 0}, opset=18)
    scalar = numbers(())
    # onnx.reference fails on this one
    check_node(op, [scalar], opset=18, expected=[scalar] if op == "ReduceLogSumExp" else None)
    check_node(op, [x], {"noop_with_empty_axes": 1}, opset=18)


@pytest.mark.parametrize(
    "op",
    [
        "ReduceSum",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceSumSquare",
        "ReduceMax",
        "ReduceMin",
        "ReduceLogSumExp",
    ],
)
def test_empty_sets(op: str) -> None:
    feeds = {"x": np.zeros((2, 0, 3), np.float32), "a": np.array([1])}
    check_node(op, feeds, constants=["a"], opset=20)


@pytest.mark.parametrize(
    "dtype", ["int8", "bool", "uint64", *(pytest.param(name, marks=pytest.mark.full) for name in ("uint8", "int64"))]
)
def test_extremes_of_integers(dtype: str) -> None:
    for op in ("ReduceMax", "ReduceMin"):
        for axis in (0, 1):
            check_node(op, {"x": sample((5, 6), dtype), "a": np.array([axis])}, constants=["a"], opset=20)


def test_a_nan_reaches_the_result() -> None:
    x = numbers((4, 40))
    x[1, 7] = np.nan
    for op in ("ReduceMax", "ReduceMin", "ReduceSum"):
        for axis in (0, 1):
            check_node(op, [x], {"axes": [axis]}, opset=11)


def test_log_sum_exp_does_not_overflow() -> None:
    x = np.array([[1000, 1001, -np.inf], [-np.inf] * 3, [np.inf, 0, 1]], np.float32)
    wanted = np.array([1001.3132616875182, -np.inf, np.inf], np.float32)
    check_node("ReduceLogSumExp", [x], {"axes": [1], "keepdims": 0}, opset=13, expected=[wanted])
    check_node(
        "ReduceLogSumExp", [np.ascontiguousarray(x.T)], {"axes": [0], "keepdims": 0}, opset=13, expected=[wanted]
    )


@pytest.mark.parametrize("features", FEATURES)
def test_long_sums_are_accurate(features: str | None) -> None:
    x = np.random.default_rng(0).normal(1e3, 1, (3, 100_000)).astype(np.float32)
    for array, axis in ((x, 1), (np.ascontiguousarray(x.T), 0)):
        wanted = array.astype(np.float64).mean(axis).astype(np.float32)
        attributes = {"axes": [axis], "keepdims": 0}
        check_node(
            "ReduceMean", [array], attributes, opset=13, tol=1e-7, expected=[wanted], features=features, threads=2
        )


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
def test_pixels_of_a_blocked_value(op: str, features: str | None) -> None:
    for keep in (0, 1):
        attributes = {"axes": [2, 3], "keepdims": keep}
        check_node(op, {"x": sample((2, 21, 5, 7))}, attributes, opset=13, blocked=["x"], features=features)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "float64"])
@pytest.mark.parametrize("last", [0, 1])
def test_positions(op: str, dtype: str, last: int) -> None:
    x = np.random.default_rng(0).integers(0, 5, (4, 9, 150)).astype(dtype)
    for axis in (0, 1, -1):
        for keep in (0, 1):
            check_node(op, [x], {"axis": axis, "keepdims": keep, "select_last_index": last}, opset=13)


def test_position_of_a_nan() -> None:
    x = np.array([1, np.nan, 3, np.nan], np.float32)
    check_node("ArgMax", [x], {"keepdims": 0}, expected=[np.array(1)])
    check_node("ArgMin", [x], {"keepdims": 0, "select_last_index": 1}, expected=[np.array(3)])
