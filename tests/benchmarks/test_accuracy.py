"""What the figures of accuracy rest on: networks trained by script, and how readings and pictures are scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.accuracy import depthwise, digits
from benchmarks.accuracy.super_resolution import psnr
from benchmarks.accuracy.text_lines import decode, edit_distance

Array = npt.NDArray[Any]


def batch() -> tuple[Array, Array]:
    generator = np.random.default_rng(0)
    return generator.random((6, 1, 8, 8)).astype(np.float32), generator.integers(0, 10, 6)


def loss(module: Any, weights: dict[str, Array], x: Array, labels: Array) -> float:
    """The cross entropy, from the gradient of the last bias: the chances less one at the label, over the count."""
    single = [module._gradients(weights, x[at : at + 1], labels[at : at + 1])["c_bias"] for at in range(len(x))]
    return float(-np.mean([np.log(slope[label] + 1) for slope, label in zip(single, labels, strict=True)]))


@pytest.mark.parametrize("module", [digits, depthwise], ids=["plain", "depthwise"])
def test_gradients_are_those_of_the_cross_entropy(module: Any) -> None:
    x, labels = batch()
    weights = {name: array.astype(np.float64) for name, array in module._start().items()}
    generator = np.random.default_rng(1)
    for name in weights:
        if name.endswith("_bias"):  # where all is zero, Relu has no slope to compare
            weights[name] += 0.1 * generator.standard_normal(weights[name].shape)
    found = module._gradients(weights, x.astype(np.float64), labels)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        way = generator.standard_normal(array.shape)
        step = 1e-6
        ends = [
            loss(module, {**weights, name: array + sign * step * way}, x.astype(np.float64), labels) for sign in (1, -1)
        ]
        assert float((found[name] * way).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=2e-3, abs=1e-6)


def test_uneven_channels_are_another_size_but_no_other_function() -> None:
    x, labels = batch()
    weights = depthwise._start()
    scaled = depthwise.uneven(weights)
    sizes = np.abs(scaled["a"]).max(axis=0)
    assert sizes.max() / sizes.min() > 100
    before, after = (depthwise._gradients(each, x, labels)["c_bias"] for each in (weights, scaled))
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)


def test_pictures_are_compared_in_decibels() -> None:
    one = np.full((1, 3, 4, 4), 0.5, np.float32)
    assert psnr(one, one) == 100.0
    assert psnr(one + np.float32(0.1), one) == pytest.approx(20.0, abs=1e-3)


def test_readings_are_compared_by_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.accuracy.text_lines.characters", lambda: ["a", "b", " "])
    scores = np.eye(4)[[3, 3, 1, 1, 0, 1, 2, 0, 3]][None]
    assert decode(scores) == " aab "
    assert edit_distance("aab", "ab") == 1 and edit_distance("", "ab") == 2
