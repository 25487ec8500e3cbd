"""Custom operators: registered by an application, or known by the names that MediaPipe gave them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from flatbuffers import flexbuffers
from lite_models import LiteModel, assert_agree
from test_operators import floats

import mace_core as mace
from mace_core.custom_ops import unregister
from mace_core.errors import MaceError, UnsupportedModelError
from mace_core.frontend.load import load_model


def scaling(custom: bytes) -> bytes:
    model = LiteModel()
    g = model.graph()
    g.op("Scale", [g.input("x", (3,))], [g.output("y", (3,))], custom=custom)
    return model.bytes()


OPTIONS = flexbuffers.Dumps({"factor": 2.5, "places": [1, 2], "name": "twice and a half"})
X = np.float32([1, 2, 3])


def test_an_unknown_one_is_named_with_how_to_register_it() -> None:
    with (
        pytest.raises(MaceError, match=r"'Scale_0/Scale' \(tflite\.Scale\).*mace_core\.custom_op registers"),
        mace.Session(scaling(OPTIONS), devices=["cpu"]) as session,
    ):
        session.run({"x": X})


def test_a_registered_one_runs_and_gets_its_options() -> None:
    @mace.custom_op("tflite", "Scale", outputs=("y",), shape=mace.custom_ops.like_first_input)
    def scale(x: np.ndarray, *, factor: float, places: tuple[int, ...], name: str) -> np.ndarray:
        assert name == "twice and a half"
        return (x * factor + places[1]).astype(np.float32)

    try:
        with mace.Session(scaling(OPTIONS), devices=["cpu"]) as session:
            assert np.array_equal(session.run({"x": X})["y"], [4.5, 7, 9.5])
    finally:
        unregister("tflite", "Scale")


def test_options_of_another_form_are_bytes() -> None:
    (node,) = load_model(scaling(b"\x01\xff\x07")).nodes
    assert node.attr("custom_options") == (1, 255, 7)


def test_an_unknown_builtin_operator_is_named() -> None:
    model = LiteModel()
    g = model.graph()
    g.op("LSH_PROJECTION", [g.input("x", (3,))], [g.output("y", (3,))], "LSHProjectionOptions")
    with pytest.raises(UnsupportedModelError, match=r"node 'LSH_PROJECTION_0' \(LSH_PROJECTION\) is an operator that"):
        load_model(model.bytes())


# --- MediaPipe's ------------------------------------------------------------------------------------------------------


def test_a_transposed_convolution_with_bias() -> None:
    """LiteRT's XNNPACK has it, too."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 5, 6, 4))
    filters, bias = g.constant("f", floats(3, 2, 2, 4)), g.constant("b", floats(3))
    y = g.output("y", (1, 10, 12, 3))
    g.op("Convolution2DTransposeBias", [x, filters, bias], [y], custom=struct.pack("<3i", 1, 2, 2))
    assert_agree(model.bytes(), {"x": floats(1, 5, 6, 4)})


def run(model: LiteModel, **feeds: np.ndarray) -> np.ndarray:
    with mace.Session(model.bytes(), devices=["cpu"], strict=True) as session:
        return np.asarray(next(iter(session.run(feeds).values())))


MATRIX = np.float32([[[1.5, -0.4, 0, 3], [0.3, 1.2, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]])


@pytest.mark.parametrize("width", [2, 3])
def test_landmarks_are_moved(width: int) -> None:
    model = LiteModel()
    g = model.graph()
    inputs = [g.input("points", (1, 7, width)), g.input("matrix", (1, 4, 4))]
    g.op("TransformLandmarks", inputs, [g.output("y", (1, 7, width))], version=2)
    points = floats(1, 7, width)
    expected = points.copy()
    expected[0, :, :2] = points[0, :, :2] @ MATRIX[0, :2, :2].T + MATRIX[0, :2, 3]
    np.testing.assert_allclose(run(model, points=points, matrix=MATRIX), expected, rtol=1e-5, atol=1e-5)


def test_a_picture_is_cut_out_as_a_matrix_says() -> None:
    """Bilinear between pixels; what lies outside is 0."""
    model = LiteModel()
    g = model.graph()
    inputs = [g.input("picture", (1, 9, 12, 2)), g.input("matrix", (1, 4, 4))]
    options = flexbuffers.Dumps({"output_height": 5, "output_width": 6})
    g.op("TransformTensorBilinear", inputs, [g.output("y", (1, 5, 6, 2))], version=2, custom=options)
    picture = floats(1, 9, 12, 2)
    expected = np.zeros((1, 5, 6, 2))
    for row in range(5):
        for column in range(6):
            x, y = MATRIX[0, :2, :2] @ (column + 0.5, row + 0.5) + MATRIX[0, :2, 3] - 0.5
            if not (0 <= x <= 11 and 0 <= y <= 8):
                continue
            left, top = int(np.floor(x)), int(np.floor(y))
            for dx, dy in ((0, 0), (0, 1), (1, 0), (1, 1)):
                if left + dx < 12 and top + dy < 9:
                    weight = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
                    expected[0, row, column] += weight * picture[0, top + dy, left + dx]
    found = run(model, picture=picture, matrix=MATRIX)
    assert 0 < np.count_nonzero(expected.any(-1)) < 30, "some of it lies outside"
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_box_around_landmarks_becomes_a_matrix() -> None:
    """It takes the corners of the result to those of a box, larger than the points by the scales, turned with them."""
    model = LiteModel()
    g = model.graph()
    options = {"left_rotation_idx": 0, "right_rotation_idx": 3, "output_width": 16, "output_height": 8}
    options |= {"scale_x": 1.5, "scale_y": 1.25, "target_rotation_radians": 0.0, "subset_idxs": [0, 1, 2, 3]}
    custom = flexbuffers.Dumps(options)
    g.op(
        "Landmarks2TransformMatrix",
        [g.input("points", (1, 5, 3))],
        [g.output("m", (1, 4, 4))],
        version=2,
        custom=custom,
    )
    turn = 0.5
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    square = np.array([[-4, 0], [0, -2], [0, 2], [4, 0], [100, 100]])  # the last is not in the subset
    points = np.zeros((1, 5, 3), np.float32)
    points[0, :, :2] = square @ rotation.T + (30, 20)
    matrix = run(model, points=points)[0]
    for corner, offset in (((0, 0), (-6, -2.5)), ((16, 8), (6, 2.5)), ((8, 4), (0, 0))):
        found = matrix @ (*corner, 0, 1)
        np.testing.assert_allclose(found[:2], rotation @ offset + (30, 20), atol=1e-4)
    assert np.array_equal(matrix[2:], [[0, 0, 1, 0], [0, 0, 0, 1]])
