"""Constants, Shape, Size, ConstantOfShape, EyeLike, Range, OneHot, Trilu, CumSum and ReverseSequence."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from harness import FEATURES, check_node, sample

from mace_core.errors import ProviderError


@pytest.mark.parametrize(
    "attributes",
    [
        {"value": np.arange(6, dtype=np.int16).reshape(2, 3)},
        {"value": np.array(2.5)},
        {"value_float": 1.5},
        {"value_floats": [1.0, 2.0]},
        {"value_int": 7},
        {"value_ints": [3, 4, 5]},
    ],
)
def test_constant(attributes: dict[str, Any]) -> None:
    check_node("Constant", [], attributes)


def test_shape_and_size() -> None:
    x = sample((2, 3, 4))
    check_node("Shape", [x])
    check_node("Shape", [x], {"start": 1, "end": -1})
    check_node("Shape", [x], {"start": -2})
    check_node("Shape", [sample(())])
    check_node("Size", [x])


@pytest.mark.parametrize("value", [None, np.array([3], np.int8), np.array([-1.5]), np.array([True])])
def test_constant_of_shape(value: Any) -> None:
    attributes = {} if value is None else {"value": value}
    for shape in [(2, 3), (0, 2), (40000,)]:
        check_node("ConstantOfShape", {"s": np.array(shape)}, attributes, constants=["s"], threads=2)
    check_node("ConstantOfShape", {"s": np.zeros(0, np.int64)}, attributes, constants=["s"])


def test_eye_like() -> None:
    check_node("EyeLike", [sample((3, 4))])
    check_node("EyeLike", [sample((4, 3), "int32")], {"k": -1, "dtype": 11})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "int64"])
def test_range(dtype: str) -> None:
    for start, stop, step in [(1, 10, 2), (10, -3, -3), (3, 3, 1)]:
        check_node("Range", [np.array(n, dtype) for n in (start, stop, step)])


def test_range_of_fractions() -> None:
    check_node("Range", [np.array(n, np.float32) for n in (0.5, 3.0, 0.25)])


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_range_of_halves(dtype: type, features: str | None) -> None:
    for start, stop, step in [(1, 10, 2), (1, 2, 2), (0, 37, 1)]:
        expected = np.arange(start, stop, step).astype(dtype)
        inputs = [np.array(n, dtype) for n in (start, stop, step)]
        check_node("Range", inputs, opset=27, expected=[expected], features=features, threads=2)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("index", ["int64", "float32", "uint8"])
def test_one_hot(axis: int, index: str) -> None:
    picks = np.array([[1, 9, 3], [0, 4, 2]]).astype(index)
    for values in (np.array([0, 1], np.float32), np.array([5, -2], np.int64), np.array([False, True])):
        hot = picks.astype(np.int64)[..., None] == np.arange(10)
        wanted = np.moveaxis(np.where(hot, values[1], values[0]), -1, axis)
        feeds = {"i": picks, "d": np.array(10), "v": values}
        check_node("OneHot", feeds, {"axis": axis}, constants=["d"], expected=[wanted])


def test_one_hot_of_negative_and_foreign_indices() -> None:
    feeds = {"i": np.array([-1, -5, 5, -6, 2]), "d": np.array(5), "v": np.array([0, 1], np.int32)}
    wanted = np.zeros((5, 5), np.int32)
    wanted[[0, 1, 4], [4, 0, 2]] = 1
    check_node("OneHot", feeds, constants=["d"], expected=[wanted])


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, -2, 3, 2**62, -(2**62)])
def test_trilu(upper: int, k: int | None) -> None:
    x = sample((2, 4, 5), "int64")
    cut = np.triu if upper else np.tril
    wanted = cut(x, 0 if k is None else max(min(k, 99), -99))
    check_node("Trilu", [x, None if k is None else np.array(k)], {"upper": upper}, expected=[wanted])
    check_node("Trilu", [x.astype(np.float16)], {"upper": upper})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_running_sums(dtype: str, exclusive: int, reverse: int) -> None:
    attributes = {"exclusive": exclusive, "reverse": reverse}
    for axis in (0, 1, -1):
        feeds = {"x": sample((3, 4, 5), dtype), "a": np.array(axis)}
        check_node("CumSum", feeds, attributes, constants=["a"])
    check_node("CumSum", {"x": sample((3, 0), dtype), "a": np.array(-1)}, attributes, constants=["a"])


def test_a_running_sum_along_an_axis_that_only_the_run_tells() -> None:
    x = sample((3, 4, 5))
    for axis in (0, 1, -1, -3):
        check_node("CumSum", [x, np.array(axis, np.int32)], {"reverse": 1})
    with pytest.raises(ProviderError, match="'x1' holds 3, which is not an axis of 3"):
        check_node("CumSum", [x, np.array(3)], expected=[x])


@pytest.mark.parametrize(("batch_axis", "time_axis"), [(1, 0), (0, 1)])
def test_reverse_sequence(batch_axis: int, time_axis: int) -> None:
    x = sample((4, 5, 3))
    lengths = np.arange(x.shape[batch_axis]) % (x.shape[time_axis] + 1)
    attributes = {"batch_axis": batch_axis, "time_axis": time_axis}
    check_node("ReverseSequence", [x, np.maximum(lengths, 1)], attributes)
    with pytest.raises(ProviderError, match="the length 9"):
        check_node("ReverseSequence", [x, np.full_like(lengths, 9)], attributes, expected=[x])
