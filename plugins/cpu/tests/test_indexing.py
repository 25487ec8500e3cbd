"""Gather and Scatter in all forms, and what happens to an index that is out of range."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_node, rejection, sample
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.errors import ProviderError

DTYPES = ["float32", "float64", "float16", "int8", "int64", "bool", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_gather_of_every_element_type(dtype: str, index: str) -> None:
    picks = np.array([[0, -1, 2], [1, 1, -4]], index)
    check_node("Gather", [sample((4, 3), dtype), picks])
    check_node("Gather", [sample((2, 4, 40), dtype), picks], {"axis": 1}, threads=2)
    check_node("Gather", {"x": sample((5, 4), dtype), "i": picks}, {"axis": -1}, constants=["i"])


@settings(max_examples=30)
@given(st.data())
def test_gather_of_any_shape(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    picks = data.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), max_size=6))
    check_node("Gather", [sample(tuple(shape)), np.array(picks, np.int64)], {"axis": axis})


@pytest.mark.parametrize("constants", [[], ["i"]])
def test_gather_of_one_index(constants: list[str]) -> None:
    for axis in range(3):
        feeds = {"x": sample((2, 3, 5)), "i": np.array(-1)}
        check_node("Gather", feeds, {"axis": axis}, constants=constants)
    check_node("Gather", {"x": sample((3,), "int64"), "i": np.array([2])}, constants=constants)
    check_node("Gather", {"x": sample((3, 0)), "i": np.array([2])}, constants=constants)


def test_an_index_out_of_range_stops_the_run_with_an_error() -> None:
    expected = [np.zeros((2, 3), np.float32)]
    with pytest.raises(ProviderError, match=r"'node'.*cpu:0.*'x1' holds the index 7.*4 elements") as caught:
        check_node("Gather", [sample((4, 3)), np.array([0, 7])], expected=expected)
    assert caught.value.node == "node"
    with pytest.raises(ProviderError, match="the index -5"):
        check_node("GatherND", [sample((4, 3)), np.array([[1], [-5]])], expected=expected)
    with pytest.raises(ProviderError, match="the index 9"):
        check_node("GatherElements", [sample((4, 3)), np.array([[1, 9, 0]])], expected=[sample((1, 3))])
    with pytest.raises(ProviderError, match="the index 4"):
        check_node("ScatterElements", [sample((4, 3)), np.array([[4]]), sample((1, 1))], expected=[sample((4, 3))])
    with pytest.raises(ProviderError, match="the index 5"):
        check_node("ScatterND", [sample((4,)), np.array([[5]]), sample((1,))], expected=[sample((4,))])
    reason = rejection("Gather", [sample((4, 3)), np.array([0, 7])], expected, constants=["x1"])
    assert "index 7" in reason


@pytest.mark.parametrize("dtype", DTYPES[:-1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements(dtype: str, axis: int) -> None:
    rng = np.random.default_rng(0)
    x = sample((4, 5, 6), dtype)
    shape = [3, 5, 4]
    shape[axis] = 7
    picks = rng.integers(-4, 4, shape)
    wanted = np.take_along_axis(
        x[tuple(slice(0, s) if i != axis % 3 else slice(None) for i, s in enumerate(shape))], picks, axis
    )
    check_node("GatherElements", [x, picks], {"axis": axis}, expected=[wanted])


def test_gather_nd() -> None:
    x = sample((2, 3, 4, 5), "int32")
    rng = np.random.default_rng(0)
    check_node("GatherND", [x, rng.integers(-2, 2, (6, 1))])
    check_node("GatherND", [x, rng.integers(0, 2, (2, 3, 4))])
    check_node("GatherND", [x, rng.integers(0, 2, (2, 7, 2))], {"batch_dims": 1})
    check_node("GatherND", [x, rng.integers(0, 2, (2, 3, 2))], {"batch_dims": 2}, threads=2)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "int64"])
def test_scatter_elements(reduction: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x, updates = sample((4, 5), dtype), rng.integers(1, 9, (3, 5)).astype(dtype)
    columns = np.stack([rng.permutation(5) for _ in range(3)])
    check_node("ScatterElements", [x, columns, updates], {"axis": 1, "reduction": reduction}, opset=18)
    repeated = rng.integers(-4, 0, (3, 5)).astype(np.int32)
    if reduction != "none":
        check_node("ScatterElements", [x, repeated, updates], {"axis": 0, "reduction": reduction}, opset=18)


@pytest.mark.parametrize("dtype", ["bool", "float16", "int8"])
def test_scatter_moves_every_element_type(dtype: str) -> None:
    check_node("ScatterElements", [sample((4, 3), dtype), np.array([[2, 0, 1]]), sample((1, 3), dtype)])
    check_node("ScatterND", [sample((4, 3), dtype), np.array([[2], [0]]), sample((2, 3), dtype)])
    check_node(
        "Scatter", [sample((4, 3), "float32"), np.array([[2, 0, 1]]), sample((1, 3))], opset=9, oracle="onnxruntime"
    )


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_scatter_nd(reduction: str, dtype: str) -> None:
    x = sample((4, 3, 5), dtype)
    rng = np.random.default_rng(0)
    check_node("ScatterND", [x, np.array([[1], [-1]]), sample((2, 3, 5), dtype)], {"reduction": reduction}, opset=18)
    picks = np.stack([rng.permutation(4)[:2], rng.permutation(3)[:2], [0, 4]], axis=1)
    check_node("ScatterND", [x, picks, sample((2,), dtype)], {"reduction": reduction}, opset=18)
    if reduction != "none":
        feeds = [x, np.array([[1, 1], [1, 1]]), sample((2, 5), dtype)]
        check_node("ScatterND", feeds, {"reduction": reduction}, opset=18)


def test_compress_with_a_fixed_condition() -> None:
    keep = np.array([True, False, True])
    check_node("Compress", {"x": sample((2, 3, 4)), "c": keep}, {"axis": 1}, constants=["c"])
    check_node("Compress", {"x": sample((2, 3), "int16"), "c": keep}, constants=["c"])
