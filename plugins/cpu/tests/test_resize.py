"""Resize and Upsample: modes, coordinate transformations, opsets, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Array, check_node, check_nodes, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

TRANSFORMATIONS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def picture(*shape: int) -> Array:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


def resize(
    x: Array,
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    roi: list[float] | None = None,
    **attributes: Any,
) -> None:
    feeds = {
        "x": x,
        "roi": None if roi is None else np.array(roi, np.float32),
        "scales": None if scales is None else np.array(scales, np.float32),
        "sizes": None if sizes is None else np.array(sizes, np.int64),
    }
    keywords = {
        name: attributes.pop(name)
        for name in ("blocked", "features", "threads", "oracle", "expected")
        if name in attributes
    }
    constants = [name for name in ("roi", "scales", "sizes") if feeds[name] is not None]
    check_node("Resize", feeds, attributes, opset=19, constants=constants, tol=2e-6, **keywords)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("nearest", NEAREST)
def test_nearest(transformation: str, nearest: str) -> None:
    attributes: dict[str, Any] = {
        "mode": "nearest",
        "coordinate_transformation_mode": transformation,
        "nearest_mode": nearest,
    }
    for sizes in ([1, 2, 10, 14], [1, 2, 3, 4], [1, 2, 9, 5]):
        resize(picture(1, 2, 5, 7), sizes=sizes, **attributes)
    resize(picture(1, 2, 5, 7), scales=[1, 1, 2, 3], **attributes)


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_interpolation(transformation: str, mode: str, exclude: int) -> None:
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": transformation,
        "exclude_outside": exclude,
    }
    for sizes in ([1, 2, 10, 14], [1, 2, 3, 4], [1, 2, 9, 5]):
        resize(picture(1, 2, 5, 7), sizes=sizes, **attributes)
    resize(picture(1, 2, 5, 7), scales=[1, 1, 0.6, 1.7], **attributes)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(mode: str, exclude: int) -> None:
    attributes: dict[str, Any] = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    resize(picture(1, 2, 17, 9), sizes=[1, 2, 5, 4], **attributes)
    resize(picture(1, 1, 4, 4), scales=[1, 1, 0.6, 0.6], **attributes)
    resize(picture(1, 1, 4, 4), scales=[1, 1, 2, 0.5], **attributes)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crop_and_resize(mode: str) -> None:
    attributes: dict[str, Any] = {
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 7.5,
        "mode": mode,
    }
    for roi in ([0, 0, 0.4, 0.6, 1, 1, 0.6, 0.8], [0, 0, -0.31, 0.2, 1, 1, 1.23, 1.6]):
        resize(picture(1, 2, 6, 5), sizes=[1, 2, 4, 7], roi=roi, **attributes)


def test_axes_and_aspect_ratio() -> None:
    x = picture(1, 2, 4, 6)
    resize(x, sizes=[8, 7], axes=[2, 3], mode="linear")
    # onnx.reference takes no negative axes
    resize(x, scales=[2, 0.5], axes=[-1, -2], mode="nearest", oracle="onnxruntime")
    for policy in ("not_larger", "not_smaller"):
        for mode in ("nearest", "linear", "cubic"):
            resize(x, sizes=[7, 8], axes=[2, 3], keep_aspect_ratio_policy=policy, mode=mode)


def test_any_rank_and_any_axis() -> None:
    resize(picture(5), sizes=[9], mode="linear")
    resize(picture(3, 4), sizes=[5, 7], mode="cubic")
    resize(picture(2, 3, 4, 5, 3), sizes=[2, 4, 5, 9, 3], mode="linear")
    resize(picture(2, 3, 4, 5, 3), sizes=[4, 3, 4, 9, 3], mode="nearest")
    resize(picture(1, 2, 3, 3), sizes=[1, 2, 3, 3], mode="linear")


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("channels", [16, 21])
def test_blocked_values_stay_blocked(features: str | None, mode: str, channels: int) -> None:
    x = picture(2, channels, 5, 6)
    resize(x, sizes=[2, channels, 10, 9], mode=mode, blocked=["x"], features=features, threads=2)
    resize(x, sizes=[2, channels, 5, 12], mode=mode, blocked=["x"], features=features)
    resize(x, sizes=[2, channels + 3, 5, 3], mode=mode, blocked=["x"], features=features)


def test_blocked_values_are_cropped() -> None:
    attributes: dict[str, Any] = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": -3.0}
    for mode in ("nearest", "linear"):
        roi = [0, 0, -0.31, 0.2, 1, 1, 1.23, 1.6]
        resize(picture(1, 18, 6, 5), sizes=[1, 18, 4, 7], roi=roi, mode=mode, blocked=["x"], **attributes)


@pytest.mark.parametrize("dtype", ["float64", "int8", "uint8", "int32", "int64", "float16"])
def test_nearest_of_every_element_type(dtype: str) -> None:
    resize(sample((1, 2, 3, 4), dtype), scales=[1, 1, 2, 3], mode="nearest")


@pytest.mark.parametrize("dtype", ["float64", "int8", "uint8", "int32"])
def test_interpolation_of_other_types(dtype: str) -> None:
    x = sample((1, 2, 3, 4), dtype) * 4
    resize(x, scales=[1, 1, 2, 2], mode="linear", coordinate_transformation_mode="asymmetric")


def test_upsample_and_the_first_resize() -> None:
    x = picture(1, 2, 3, 4)
    for mode in ("nearest", "linear"):
        scales = np.array([1, 1, 2, 3], np.float32)
        check_node("Upsample", [x], {"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, opset=7, oracle="onnxruntime")
        for opset, op in ((9, "Upsample"), (10, "Resize")):
            feeds = {"x": x, "s": scales}
            check_node(op, feeds, {"mode": mode}, opset=opset, constants=["s"], oracle="onnxruntime")


def test_nearest_of_opset_11_agrees_with_onnxruntime() -> None:
    feeds = {"x": picture(1, 2, 5, 8), "roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 1.5], np.float32)}
    for transformation in (*TRANSFORMATIONS[:1], *TRANSFORMATIONS[2:], "tf_half_pixel_for_nn"):
        attributes: dict[str, Any] = {"coordinate_transformation_mode": transformation, "mode": "nearest"}
        check_node("Resize", feeds, attributes, opset=11, constants=["roi", "scales"], oracle="onnxruntime")


@settings(max_examples=40)
@given(
    channels=st.integers(1, 37),
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=3),
    followers=st.lists(st.sampled_from(["Add", "Mul", "Relu", "Sigmoid", "scale"]), max_size=3),
    threads=st.integers(1, 2),
    features=st.sampled_from(FEATURES),
)
def test_what_follows_nearest_neighbors_is_done_with_them(
    channels: int, sizes: list[tuple[int, int]], followers: list[str], threads: int, features: str | None
) -> None:
    before, after = [2, channels, *(a for a, _ in sizes)], [2, channels, *(b for _, b in sizes)]
    given_: dict[str, Array] = {"x": picture(*before), "sizes": np.array(after, np.int64)}
    nodes = [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="nearest", nearest_mode="floor")]
    blocked, last = ["x"], "y"
    for i, op in enumerate(followers):
        inputs = [last]
        if op in ("Add", "Mul"):
            given_[f"o{i}"] = np.random.default_rng(i).standard_normal(after).astype(np.float32)
            inputs.append(f"o{i}")
            blocked.append(f"o{i}")
        elif op == "scale":
            given_[f"c{i}"] = np.random.default_rng(i).standard_normal((channels, *[1] * len(sizes))).astype(np.float32)
            inputs.append(f"c{i}")
            op = "Mul"
        nodes.append(helper.make_node(op, inputs, [f"v{i}"]))
        last = f"v{i}"
    constants = ["sizes", *(name for name in given_ if name.startswith("c"))]
    check_nodes(
        nodes, given_, [last], 19, constants=constants, blocked=blocked, threads=threads, features=features, tol=2e-6
    )
