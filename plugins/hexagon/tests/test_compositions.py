"""Operators spelled out in QNN's: resizing in all modes, poolings, masked attention, functions, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hexagon_support import Array, onnxruntime_outputs
from onnx import helper
from test_integers import model, run

pytestmark = pytest.mark.usefixtures("library_folder")


def check(made: onnx.ModelProto, feeds: dict[str, Array], tolerance: float = 5e-3) -> None:
    """The emulated HTP alone computes what onnxruntime does."""
    expected = onnxruntime_outputs(made.SerializeToString(), feeds)
    found = run(made, feeds)
    for value, array in zip(made.graph.output, expected, strict=True):
        assert found[value.name].dtype == array.dtype
        np.testing.assert_allclose(found[value.name], array, rtol=tolerance, atol=tolerance)


def sample(*shape: int, low: float = -2.0, high: float = 2.0) -> Array:
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def one(op: str, feeds: dict[str, Array], **attributes: Any) -> onnx.ModelProto:
    """A model of one node."""
    return model([helper.make_node(op, list(feeds), ["y"], name=op, **attributes)], feeds, {"y": "float32"})


@pytest.mark.parametrize(
    "attributes",
    [
        {"mode": "cubic"},
        {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
        {"mode": "cubic", "coordinate_transformation_mode": "align_corners"},
        {"mode": "linear", "antialias": 1},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"},
        {"mode": "nearest", "nearest_mode": "floor"},
        {"mode": "nearest", "coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"},
    ],
)
@pytest.mark.parametrize("sizes", [(1, 2, 7, 9), (1, 2, 3, 4)])
def test_resize(attributes: dict[str, Any], sizes: tuple[int, ...]) -> None:
    x = sample(1, 2, 5, 6)
    nodes = [helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], name="resize", **attributes)]
    check(model(nodes, {"x": x}, {"y": "float32"}, sizes=np.int64(sizes)), {"x": x})


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("AveragePool", (1, 2, 6, 7), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ("AveragePool", (1, 2, 6, 7), {"kernel_shape": [3, 2], "pads": [1, 1, 2, 1], "count_include_pad": 1}),
        ("AveragePool", (1, 2, 9), {"kernel_shape": [3], "strides": [2]}),
        ("AveragePool", (1, 2, 4, 5, 6), {"kernel_shape": [2, 2, 2]}),
        ("MaxPool", (1, 2, 4, 5, 6), {"kernel_shape": [2, 3, 2], "pads": [1, 1, 0, 0, 1, 1]}),
        ("MaxPool", (1, 2, 6, 7), {"kernel_shape": [2, 2], "dilations": [2, 3]}),
        ("LpPool", (1, 2, 6, 7), {"kernel_shape": [3, 3], "p": 2, "pads": [1, 1, 1, 1]}),
    ],
)
def test_poolings_that_the_library_lacks(op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    x = sample(*shape)
    check(one(op, {"x": x}, **attributes), {"x": x})


@pytest.mark.parametrize("op", ["Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Atanh", "Erf"])
def test_functions_that_the_library_lacks(op: str) -> None:
    x = sample(3, 5, low=-0.95, high=0.95)
    check(one(op, {"x": x}), {"x": x}, tolerance=1e-2)


def test_a_row_that_is_masked_whole_attends_to_nothing() -> None:
    """Softmax of minus infinity alone is NaN, which the HTP does not have; ONNX's Attention asks for zeros."""
    scores, mask = sample(2, 4), np.array([[True, False, True, True], [False] * 4])
    nodes = [
        helper.make_node("Where", ["mask", "zero", "never"], ["bias"], name="where"),
        helper.make_node("Add", ["scores", "bias"], ["biased"], name="add"),
        helper.make_node("Softmax", ["biased"], ["y"], name="softmax", axis=-1),
    ]
    feeds: dict[str, Array] = {"scores": scores, "mask": mask}
    made = model(nodes, feeds, {"y": "float32"}, zero=np.float32([0.0]), never=np.float32([-np.inf]))
    found = run(made, feeds)["y"]
    expected = np.exp(scores[0]) * mask[0]
    np.testing.assert_allclose(found, [expected / expected.sum(), np.zeros(4)], atol=2e-3)


@pytest.mark.parametrize("mode", ["edge", "wrap", "constant"])
def test_pad_in_other_modes_and_by_negative_amounts(mode: str) -> None:
    x = sample(3, 4, 5)
    pads = np.int64([1, -1, 2, 0, 1, -2])
    nodes = [helper.make_node("Pad", ["x", "pads"], ["y"], name="pad", mode=mode)]
    made = model(nodes, {"x": x}, {"y": "float32"}, pads=pads)
    made.opset_import[0].version = 19
    mode_of_numpy: Any = mode
    widened = np.pad(x, ((1, 0), (0, 1), (2, 0)), mode_of_numpy)
    np.testing.assert_allclose(run(made, {"x": x})["y"], widened[:, 1:, :-2], rtol=1e-3, atol=1e-3)


def test_an_input_of_which_only_the_type_is_read() -> None:
    """QNN drops what no operation reads, and then does not expect it."""
    feeds: dict[str, Array] = {"x": sample(2, 3), "like": sample(4)}
    nodes = [
        helper.make_node("CastLike", ["x", "like"], ["a"], name="castlike"),
        helper.make_node("Neg", ["a"], ["y"], name="neg"),
    ]
    check(model(nodes, feeds, {"y": "float32"}), feeds)
