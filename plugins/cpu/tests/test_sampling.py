"""Sampling at computed places."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from harness import FEATURES, check_node, rejection, sample

from mace_core.errors import ProviderError

RNG = np.random.default_rng(3)


def noise(*shape: int, spread: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * spread).astype(np.float32)


MODES = list(itertools.product(["linear", "nearest", "cubic"], ["zeros", "border", "reflection"], [0, 1]))


@pytest.mark.parametrize(("mode", "padding", "align"), MODES)
def test_grid_sample_of_pictures(mode: str, padding: str, align: int) -> None:
    grid = (RNG.random((2, 4, 7, 2)) * 4 - 2).astype(np.float32)
    options = {"mode": mode, "padding_mode": padding, "align_corners": align}
    check_node("GridSample", [noise(2, 3, 5, 6), grid], options, opset=20, oracle="onnxruntime", tol=3e-6, threads=2)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_grid_sample_of_volumes(mode: str, padding: str) -> None:
    grid = (RNG.random((1, 2, 3, 2, 3)) * 3 - 1.5).astype(np.float32)
    options = {"mode": mode, "padding_mode": padding}
    check_node("GridSample", [noise(1, 2, 4, 3, 5), grid], options, opset=20, oracle="onnxruntime", tol=3e-6)


def test_grids_that_point_nowhere_stay_inside_memory() -> None:
    grid = np.array([[[[np.nan, 0], [np.inf, 0], [-1e30, 1e30]]]], np.float32)
    for padding in ("zeros", "border", "reflection"):
        check_node(
            "GridSample",
            [np.ones((1, 1, 4, 4), np.float32), grid],
            {"padding_mode": padding},
            opset=20,
            expected=[np.full((1, 1, 1, 3), 0 if padding == "zeros" else 1, np.float32)],
        )


def test_old_names_of_modes() -> None:
    grid = (RNG.random((1, 4, 7, 2)) * 2 - 1).astype(np.float32)
    for mode in ("bilinear", "bicubic"):
        check_node("GridSample", [noise(1, 2, 5, 6), grid], {"mode": mode}, opset=16, oracle="onnxruntime", tol=3e-6)
    assert "float16" in rejection("GridSample", [sample((1, 1, 2, 2), "float16"), grid], [grid])


REGIONS = np.array([[1, 2, 9, 11], [0, 0, 3, 3], [4.5, 4.5, 5, 5], [-3, -3, 20, 20], [6, 6, 2, 2]], np.float32)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("features", FEATURES)
def test_regions_of_interest(mode: str, half: str, ratio: int, features: str | None) -> None:
    if mode == "max" and ratio == 0:
        ratio = 3
    options = {
        "mode": mode, "coordinate_transformation_mode": half, "sampling_ratio": ratio, "spatial_scale": 0.5,
        "output_height": 3, "output_width": 2,
    }  # fmt: skip
    regions = REGIONS[:4]
    which = np.array([0, 1, 1, 0])
    feeds = [np.abs(noise(2, 3, 12, 10)), regions, which]
    check_node("RoiAlign", feeds, options, opset=16, oracle="onnxruntime", tol=3e-6, features=features)


def test_a_region_of_an_image_that_is_not_there_stops_the_run() -> None:
    with pytest.raises(ProviderError, match="image 5, of which there are 1"):
        check_node("RoiAlign", [noise(1, 1, 4, 4), REGIONS[:1], np.array([5])], expected=[noise(1, 1, 1, 1)])


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_deformable_convolution(group: int, parts: int, masked: bool) -> None:
    x, w = noise(2, 4, 7, 6), noise(4, 4 // group, 3, 3)
    offsets = noise(2, parts * 18, 4, 3, spread=2.0)
    mask = noise(2, parts * 9, 4, 3) if masked else None
    options = {
        "group": group, "offset_group": parts, "strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3],
    }  # fmt: skip
    check_node("DeformConv", [x, w, offsets, noise(4), mask], options, opset=19, tol=3e-6, threads=2)


@pytest.mark.parametrize(
    ("sizes", "block", "options"),
    [
        ((5, 5), (1, 5), {}),
        ((6, 5), (2, 3), {"strides": [2, 1]}),
        ((6, 6), (2, 2), {"dilations": [1, 3]}),
        ((5, 5), (3, 2), {"pads": [1, 0, 1, 1]}),
        ((4, 5, 6), (2, 2, 3), {}),
        ((7,), (3,), {"strides": [2]}),
    ],
)
def test_columns_to_images(sizes: tuple[int, ...], block: tuple[int, ...], options: dict[str, list[int]]) -> None:
    rank = len(sizes)
    strides, dilations = options.get("strides", [1] * rank), options.get("dilations", [1] * rank)
    pads = options.get("pads", [0] * 2 * rank)
    counts = [
        (sizes[i] + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1 for i in range(rank)
    ]
    x = noise(2, 3 * int(np.prod(block)), int(np.prod(counts)))
    feeds = {"x": x, "image": np.array(sizes), "block": np.array(block)}
    check_node("Col2Im", feeds, options, opset=18, constants=["image", "block"])


def test_unpooling_puts_values_back_where_they_were() -> None:
    x = noise(1, 2, 6, 6)
    onnxruntime = pytest.importorskip("onnxruntime")
    assert onnxruntime
    from harness import ask_onnxruntime, make_model
    from onnx import helper

    pool = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2], strides=[2, 2])
    values, places = ask_onnxruntime(make_model([pool], {"x": x}, ["y", "i"], 12), {"x": x})
    options = {"kernel_shape": [2, 2], "strides": [2, 2]}
    expected = np.zeros(x.size, np.float32)
    expected[places.reshape(-1)] = values.reshape(-1)
    check_node("MaxUnpool", [values, places], options, opset=12, expected=[expected.reshape(x.shape)])


def test_unpooling_outside_stops_the_run() -> None:
    with pytest.raises(ProviderError, match="index 99, which is outside 4"):
        check_node(
            "MaxUnpool",
            [noise(1, 1, 1, 1), np.full((1, 1, 1, 1), 99)],
            {"kernel_shape": [2, 2]},
            expected=[noise(1, 1, 2, 2)],
        )
