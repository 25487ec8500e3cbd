"""Pad: modes, opsets, negative amounts, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, check_node, sample
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=60)
@given(st.data())
def test_pad_like_numpy(data: st.DataObject) -> None:
    mode: Any = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    smallest = 0 if mode == "constant" else 1
    shape = data.draw(st.lists(st.integers(smallest, 6), min_size=1, max_size=4))
    pads = data.draw(st.lists(st.integers(0, 9), min_size=2 * len(shape), max_size=2 * len(shape)))
    x = sample(tuple(shape))
    amounts = list(zip(pads[: len(shape)], pads[len(shape) :], strict=True))
    feeds = {"x": x, "p": np.array(pads), "v": np.array(7, np.float32)}
    wanted = np.pad(x, amounts, mode, constant_values=7) if mode == "constant" else np.pad(x, amounts, mode)
    check_node("Pad", feeds, {"mode": mode}, constants=["p"], expected=[wanted])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_negative_amounts_cut_off(mode: Any) -> None:
    x = sample((6, 7))
    feeds = {"x": x, "p": np.array([-2, 1, 1, -3])}
    cut = x[2:, :-3]
    options: dict[str, Any] = {"constant_values": 0} if mode == "constant" else {}
    wanted = np.pad(cut, [(0, 1), (1, 0)], mode, **options)
    check_node("Pad", feeds, {"mode": mode}, constants=["p"], expected=[wanted])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "int32", "int64", "bool", "complex128"])
def test_pad_of_every_element_type(dtype: str) -> None:
    feeds = {"x": sample((2, 3, 4), dtype), "p": np.array([1, 0, 2, 0, 1, 1]), "v": np.array(3).astype(dtype)}
    check_node("Pad", feeds, constants=["p"])
    check_node("Pad", feeds, constants=["p", "v"])


def test_pad_with_axes_and_of_older_opsets() -> None:
    x = sample((2, 3, 4))
    feeds = {"x": x, "p": np.array([1, 2, 3, 0]), "v": None, "a": np.array([-1, 0])}
    wanted = np.pad(x, [(2, 0), (0, 0), (1, 3)])
    check_node("Pad", feeds, constants=["p", "a"], expected=[wanted])
    check_node("Pad", [x], {"pads": [0, 0, 1, 0, 0, 2], "value": 1.5}, opset=2)
    check_node("Pad", [x], {"pads": [0, 0, 1, 0, 0, 2], "mode": "reflect"}, opset=10)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 3, 0], [0, 3, 1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]])
def test_pad_of_a_blocked_value(pads: list[int], features: str | None) -> None:
    feeds = {"x": sample((2, 20, 4, 5)), "p": np.array(pads)}
    check_node("Pad", feeds, constants=["p"], blocked=["x"], features=features, threads=2)
    check_node("Pad", feeds, {"mode": "edge"}, constants=["p"], blocked=["x"], features=features)


def test_pad_of_a_scalar_and_of_nothing() -> None:
    check_node("Pad", {"x": sample((0, 2)), "p": np.array([1, 0, 1, 1])}, constants=["p"])
    check_node("Pad", {"x": sample((3, 2)), "p": np.array([0, 0, 0, 0])}, constants=["p"])
