"""TopK of all opsets."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_node
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        "int8",
        "uint64",
        *(pytest.param(name, marks=pytest.mark.full) for name in ("float64", "int32", "int64")),
    ],
)
def test_top_k_with_ties(largest: int, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 9, (3, 20, 4)).astype(dtype)
    for axis in (0, 1, -1):
        for k in (1, 3):
            feeds = {"x": x, "k": np.array([k])}
            check_node("TopK", feeds, {"axis": axis, "largest": largest}, outputs=2, constants=["k"], threads=2)


@settings(max_examples=40)
@given(st.data())
def test_top_k_is_a_stable_sort_cut_short(data: st.DataObject) -> None:
    line = np.array(data.draw(st.lists(st.integers(-5, 5), min_size=1, max_size=40)), np.float32)
    k = data.draw(st.integers(0, line.size))
    largest = data.draw(st.booleans())
    order = np.argsort(-line if largest else line, kind="stable")[:k]
    feeds = {"x": line, "k": np.array([k])}
    attributes = {"largest": int(largest), "sorted": 1}
    check_node("TopK", feeds, attributes, outputs=2, constants=["k"], expected=[line[order], order])


def test_top_k_of_the_first_opsets() -> None:
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    check_node("TopK", [x], {"k": 7}, outputs=2, opset=1, oracle="onnxruntime")
    check_node("TopK", {"x": x, "k": np.array([7])}, {"axis": 0 - 1}, outputs=2, opset=10, constants=["k"])


def test_one_output_alone_and_a_large_k() -> None:
    x = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)
    feeds = {"x": x, "k": np.array([900])}
    order = np.argsort(-x, kind="stable")[:, :900]
    check_node("TopK", feeds, outputs=[False, True], constants=["k"], expected=[order])
    wanted = np.take_along_axis(x, order, 1)
    check_node("TopK", feeds, outputs=[True, False], constants=["k"], expected=[wanted])


def test_a_nan_is_the_largest() -> None:
    x = np.array([1, np.nan, 3, -2], np.float32)
    feeds = {"x": x, "k": np.array([2])}
    check_node("TopK", feeds, outputs=2, constants=["k"], expected=[x[[1, 2]], np.array([1, 2])])
    check_node("TopK", feeds, {"largest": 0}, outputs=2, constants=["k"], expected=[x[[3, 0]], np.array([3, 0])])
