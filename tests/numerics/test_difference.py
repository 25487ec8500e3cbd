"""Cosine, signal to noise, largest error and error of range: what they are for values whose difference is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mace_core.numerics import compare

FLOATS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(-1e6, 1e6, width=32))


@given(FLOATS)
def test_equal_values_have_no_difference(x: np.ndarray) -> None:
    found = compare(x.copy(), x)
    assert (found.relative, found.max_error, found.sqnr_db) == (0.0, 0.0, math.inf)
    assert found.cosine == pytest.approx(1.0)


@given(FLOATS, st.floats(0.001, 1000))
def test_scaling_both_changes_neither_cosine_nor_ratio(x: np.ndarray, factor: float) -> None:
    y = x.astype(np.float64)
    noisy = y + np.linspace(-1, 1, y.size).reshape(y.shape)
    plain, scaled = compare(noisy, y), compare(noisy * factor, y * factor)
    assert scaled.cosine == pytest.approx(plain.cosine, rel=1e-6, abs=1e-9)
    assert scaled.sqnr_db == pytest.approx(plain.sqnr_db, abs=1e-3)


def test_the_figures_of_a_known_error() -> None:
    expected = np.array([0.0, 10.0, -10.0, 5.0])
    found = compare(expected + np.array([0.0, 0.0, 1.0, 0.0]), expected)
    assert found.max_error == 1.0
    assert found.relative == pytest.approx(1 / 20)
    assert found.sqnr_db == pytest.approx(10 * math.log10(225))
    assert found.cosine == pytest.approx((100 + 90 + 25) / (15 * math.sqrt(100 + 81 + 25)))


def test_opposite_values_have_a_cosine_of_minus_one() -> None:
    x = np.array([1.0, 2.0], np.float32)
    assert compare(-x, x).cosine == pytest.approx(-1)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_finite_in_one_only_is_an_error_without_measure(odd: float) -> None:
    x = np.array([1.0, 2.0, 3.0])
    y = x.copy()
    y[1] = odd
    for found in (compare(x, y), compare(y, x)):
        assert found.relative == math.inf
        assert "finite in one only" in found.note
    assert compare(y, y.copy()).relative == 0.0


def test_infinities_of_different_sign_differ() -> None:
    assert compare(np.array([np.inf]), np.array([-np.inf])).relative == math.inf


@pytest.mark.parametrize(
    ("found", "expected", "words"),
    [
        (np.zeros(3), np.zeros(4), "shape [3], expected [4]"),
        (np.zeros(3, np.float32), np.zeros(3), "float32, expected float64"),
        ([np.zeros(1)], [np.zeros(1)] * 2, "different lengths"),
        (None, np.zeros(1), "absent"),
    ],
)
def test_what_can_not_be_compared_says_why(found: object, expected: object, words: str) -> None:
    difference = compare(found, expected)
    assert difference.relative == math.inf
    assert words in difference.note


def test_kinds_that_are_no_floats() -> None:
    assert compare(np.array([True, False]), np.array([True, True])).max_error == 1.0
    assert compare(np.array([1, 2]), np.array([1, 4])).relative == pytest.approx(2 / 3)
    texts = compare(np.array(["a", "b"], object), np.array(["a", "c"], object))
    assert (texts.relative, texts.note) == (0.5, "1 of 2 texts differ")
    assert compare(np.array([1 + 1j]), np.array([1 + 2j])).max_error == 1.0
    assert compare([np.zeros(2), np.ones(2)], [np.zeros(2), np.zeros(2)]).max_error == 1.0
    assert compare(None, None).relative == 0.0
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).relative == 0.0
