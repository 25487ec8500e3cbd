"""Pad: modes, opsets, negative amounts, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, check_node, check_nodes, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper


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


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("channels", "before", "after"),
    [(20, 0, 3), (20, 0, 40), (16, 16, 0), (24, 32, 5), (3, 0, 1), (1, 16, 15), (0, 16, 3), (32, 0, 0), (32, 0, 16)],
)
def test_channels_are_added_where_they_lie(channels: int, before: int, after: int, features: str | None) -> None:
    x = sample((2, channels, 30, 21))
    feeds = {"x": x, "p": np.array([0, before, 0, 0, 0, after, 0, 0]), "v": np.array(-2, np.float32)}
    ran = check_node("Pad", feeds, constants=["p"], blocked=["x"], features=features, threads=2)
    assert any("pad_channels" in kernel for kernel in ran.kernels)
    del feeds["v"]
    check_node("Pad", feeds, constants=["p"], blocked=["x"], features=features)


@pytest.mark.parametrize("pads", [[0, 3, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -3, 0, 0], [0, 0, 0, 1, 0, 3, 0, 0]])
def test_channels_of_other_blocks_are_moved(pads: list[int]) -> None:
    feeds = {"x": sample((2, 20, 4, 5)), "p": np.array(pads)}
    check_node("Pad", feeds, constants=["p"], blocked=["x"], oracle="onnxruntime")


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_shortcut_with_more_channels_is_added_in_the_convolution(is_pooled: bool, features: str | None) -> None:
    """Exporters write the shortcut behind the convolution that it is added to."""
    stride = 2 if is_pooled else 1
    shortcut, found = "x", []
    if is_pooled:
        pool = helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[2, 2], strides=[2, 2])
        shortcut, found = "m", [pool]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1], strides=[stride, stride]),
        *found,
        helper.make_node("Pad", [shortcut, "p"], ["s"]),
        helper.make_node("Add", ["s", "c"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    feeds = {
        "x": sample((1, 24, 12, 12)),
        "w": sample((40, 24, 1, 1)),
        "p": np.array([0, 0, 0, 0, 0, 16, 0, 0]),
    }
    ran = check_nodes(nodes, feeds, ["y"], constants=["w", "p"], blocked=["x"], features=features, tol=1e-4)
    assert "Conv+Add+Relu" in ran.steps and "Conv" not in ran.steps, ran.steps


def test_what_depends_on_a_convolution_stays_behind_it() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("Conv", ["c", "v"], ["d"], kernel_shape=[1, 1]),
        helper.make_node("Pad", ["c", "p"], ["s"]),
        helper.make_node("Add", ["d", "s"], ["y"]),
        helper.make_node("Pad", ["y", "q"], ["z"]),
        helper.make_node("Add", ["z", "z"], ["t"]),
    ]
    feeds = {
        "x": sample((1, 16, 5, 5)),
        "w": sample((16, 16, 1, 1)),
        "v": sample((32, 16, 1, 1)),
        "p": np.array([0, 0, 0, 0, 0, 16, 0, 0]),
        "q": np.array([0, 0, 0, 0, 0, 1, 0, 0]),
    }
    check_nodes(nodes, feeds, ["y", "t"], constants=["w", "v", "p", "q"], tol=1e-4)


def test_pad_of_a_scalar_and_of_nothing() -> None:
    check_node("Pad", {"x": sample((0, 2)), "p": np.array([1, 0, 1, 1])}, constants=["p"])
    check_node("Pad", {"x": sample((3, 2)), "p": np.array([0, 0, 0, 0])}, constants=["p"])
