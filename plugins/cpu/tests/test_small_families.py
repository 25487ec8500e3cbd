"""Determinants, n-grams, caches, bits: operators of their own kind."""

from __future__ import annotations

import numpy as np
import pytest
from harness import check_node, rejection, sample

from mace_core.errors import ProviderError

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 4, 4), (0, 3, 3), (5, 17, 17)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_determinants(shape: tuple[int, ...], dtype: str) -> None:
    x = RNG.standard_normal(shape).astype(dtype)
    expected = np.asarray(np.linalg.det(x.astype(np.float64))).astype(dtype)
    check_node("Det", [x], expected=[expected], tol=1e-4, threads=2)


def test_a_singular_matrix_has_determinant_zero() -> None:
    check_node("Det", [np.zeros((3, 3), np.float32)], expected=[np.float32(0)])
    check_node("Det", [np.array([[0, 1], [1, 0]], np.float32)], expected=[np.float32(-1)])


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize("skips", [0, 1, 5])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_ngrams(mode: str, skips: int, dtype: str) -> None:
    options = {
        "mode": mode, "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": skips,
        "ngram_counts": [0, 4], "ngram_indexes": [0, 1, 2, 3, 4, 5, 6], "weights": [2.0, 3.0, 1.0, 1.0, 0.5, 1.0, 4.0],
        "pool_int64s": [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
    }  # fmt: skip
    x = np.array([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], dtype)
    check_node("TfIdfVectorizer", [x], options, opset=9, oracle="onnxruntime")
    check_node("TfIdfVectorizer", [x[0]], options, opset=9, oracle="onnxruntime")


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_caches_take_updates(mode: str, dtype: str) -> None:
    cache, update = sample((2, 3, 5, 4), dtype), sample((2, 3, 2, 4), dtype)
    check_node("TensorScatter", [cache, update, np.array([1, 3])], {"mode": mode}, opset=24)
    check_node("TensorScatter", [cache, update], {"mode": mode}, opset=24)
    check_node("TensorScatter", [cache, sample((2, 1, 5, 4), dtype), np.array([2, 0])], {"axis": 1}, opset=24)


def test_an_update_that_leads_outside_stops_the_run() -> None:
    cache, update = sample((1, 3, 4)), sample((1, 2, 4))
    with pytest.raises(ProviderError, match="holds 2, which leads outside a cache of 3"):
        check_node("TensorScatter", [cache, update, np.array([2])], opset=24, expected=[cache])


def test_bits_are_read_as_another_type() -> None:
    x = sample((3, 5))
    check_node("BitCast", [x], {"to": 6}, opset=26, expected=[x.view(np.int32)])
    check_node(
        "BitCast", [sample((4,), "int16")], {"to": 10}, opset=26, expected=[sample((4,), "int16").view(np.float16)]
    )
    assert "not of one width" in rejection("BitCast", [x], [x.astype(np.float64)], {"to": 11}, opset=26)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint64"])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_products(dtype: str, exclusive: int, reverse: int) -> None:
    x = (np.arange(24).reshape(2, 3, 4) % 5 + 1).astype(dtype)
    for axis in (0, -1):
        line = np.flip(x, axis) if reverse else x
        found = np.cumprod(line, axis)
        if exclusive:
            found = np.insert(np.delete(found, -1, axis), 0, 1, axis)
        expected = (np.flip(found, axis) if reverse else found).astype(dtype)
        options = {"exclusive": exclusive, "reverse": reverse}
        check_node("CumProd", [x, np.array(axis)], options, opset=26, expected=[expected])


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_shifts_of_signed_numbers(dtype: str) -> None:
    width = np.iinfo(dtype).bits
    x = np.array([-8, 4, -1, 1, np.iinfo(dtype).min, 3], dtype)
    y = np.array([1, 1, width, width - 1, width - 1, -1], dtype)
    right = np.array([-4, 2, -1, 0, -1, 0], dtype)
    left = np.array([-16, 8, 0, np.iinfo(dtype).min, 0, 0], dtype)
    check_node("BitShift", [x, y], {"direction": "RIGHT"}, opset=28, expected=[right])
    check_node("BitShift", [x, y], {"direction": "LEFT"}, opset=28, expected=[left])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floored_remainders_of_floats(dtype: str) -> None:
    x = np.array([5.5, -5.5, 5.5, -5.5, 0.0, -0.0, 3.0, -3.0, np.inf, 1.0], dtype)
    y = np.array([2, 2, -2, -2, -3, 3, np.inf, np.inf, 2, 0], dtype)
    expected = np.array([1.5, 0.5, -0.5, -1.5, -0.0, 0.0, 3.0, np.inf, np.nan, np.nan], dtype)
    ran = check_node("Mod", [x, y], opset=28, expected=[expected])
    assert np.signbit(ran.outputs["y0"][4:6]).tolist() == [True, False]
