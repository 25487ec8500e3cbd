"""Custom operators of MediaPipe's models, after what its sources compute (mediapipe/util/tflite/operations)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from mace_core.frontend.tflite.custom import flexible_options
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.arithmetic import angle_of
from mace_core.frontend.tflite.operators.convolution import bias, image, transposed_attributes
from mace_core.frontend.tflite.registry import custom_converter
from mace_core.graph import Value

_SAME = 1
"""Of TfLitePadding, as the options hold it."""


@custom_converter("Convolution2DTransposeBias")
def transposed(op: Operation) -> None:
    """Inputs: the image, filters (O, H, W, I), a bias.  Options: padding and the two strides, 32 bits each."""
    try:
        padding, width, height = struct.unpack_from("<3i", op.file.custom_options)
    except struct.error as error:
        raise op.error("lacks its options") from error
    if min(width, height) < 1:
        raise op.error(f"has strides {[height, width]}; they start at 1")
    strides, results = (height, width), op.result_shape()[1:3]
    attributes = transposed_attributes(
        op, image(op, 0)[1:3], image(op, 1)[1:3], strides, results, is_same=padding == _SAME
    )
    x = op.to_channels_first(op.real(0))
    y = op.emit("ConvTranspose", [x, op.weights(1, (3, 0, 1, 2)), *bias(op, 2)], attributes)
    op.finish(op.to_channels_last(y))


@custom_converter("TransformLandmarks")
def transform_landmarks(op: Operation) -> None:
    """Points (1, n, 2 or 3), moved by the first two rows of a matrix (1, 4, 4); a third coordinate stays."""
    _expect_version(op)
    shape = op.shape(0)
    if len(shape) != 3 or shape[2] not in (2, 3):
        raise op.error(f"has points of shape {list(shape)}; they are (1, n, 2) or (1, n, 3)")
    points = op.real(0)
    moved = _moved(op, _part(op, points, 2, 0, 2), op.real(1))
    if shape[2] == 3:
        moved = op.emit("Concat", [moved, _part(op, points, 2, 2, 3)], {"axis": 2})
    op.finish(moved)


@custom_converter("TransformTensorBilinear")
def transform_image(op: Operation) -> None:
    """A picture of the size in the options, each pixel from where a matrix (1, 4, 4) moves its center to; 0 outside."""
    _expect_version(op)
    options = _options(op)
    height, width = options.get("output_height", 0), options.get("output_width", 0)
    _, rows, columns, _ = image(op, 0)
    if (
        not isinstance(height, int)
        or not isinstance(width, int)
        or not 1 <= min(height, width) <= max(height, width) <= 4096
    ):
        raise op.error(f"has a result of {height} x {width}")
    if rows is None or columns is None or min(rows, columns) < 2:
        raise op.unsupported(f"moves a picture of {rows} x {columns}")
    y, x = np.mgrid[:height, :width] + 0.5
    centers = op.number(np.stack([x, y], -1).reshape(1, -1, 2), np.float32)
    places = op.emit("Sub", [_moved(op, centers, op.real(1)), op.number(0.5, np.float32)])
    last = op.number([columns - 1, rows - 1], np.float32)
    inside = op.emit(
        "And",
        [op.emit("GreaterOrEqual", [places, op.number(0, np.float32)]), op.emit("LessOrEqual", [places, last])],
    )
    inside = op.emit("ReduceMin", [op.emit("Cast", [inside], {"to": 1}), op.number([2])], {"keepdims": 0})
    scaled = op.emit("Mul", [places, op.number([2 / (columns - 1), 2 / (rows - 1)], np.float32)])
    grid = op.emit("Sub", [scaled, op.number(1, np.float32)])
    grid = op.emit("Reshape", [grid, op.number([1, height, width, 2])])
    found = op.emit(
        "GridSample",
        [op.to_channels_first(op.real(0)), grid],
        {"mode": "linear", "padding_mode": "zeros", "align_corners": 1},
    )
    shown = op.emit("Mul", [found, op.emit("Reshape", [inside, op.number([1, 1, height, width])])])
    op.finish(op.to_channels_last(shown))


@custom_converter("Landmarks2TransformMatrix")
def landmarks_to_matrix(op: Operation) -> None:
    """The matrix (1, 4, 4) that cuts out a turned box around some of the points (1, n, 3)."""
    _expect_version(op)
    options = _options(op)
    try:
        ends = [int(options[name]) for name in ("left_rotation_idx", "right_rotation_idx")]
        subset = [int(index) for index in options["subset_idxs"]]
        sizes = np.array([options["output_width"], options["output_height"]], np.float32)
        scales = np.array([options["scale_x"], options["scale_y"]], np.float32)
        target = float(options.get("target_rotation_radians", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise op.error(f"has options that do not say which points it reads ({error})") from error
    points = _part(op, op.real(0), 2, 0, 2)
    left, right = (op.emit("Gather", [points, op.number(end)], {"axis": 1}) for end in ends)
    way = op.emit("Sub", [right, left])  # (1, 2)
    dx, dy = (_part(op, way, 1, axis, axis + 1) for axis in (0, 1))
    turn = op.emit("Sub", [op.number(target, np.float32), angle_of(op, dy, dx, np.float32)])
    cosine, sine = op.emit("Cos", [turn]), op.emit("Sin", [turn])
    back = op.emit("Neg", [sine])

    def matrix(*entries: Value) -> Value:
        return op.emit("Reshape", [op.emit("Concat", list(entries), {"axis": 1}), op.number([1, 2, 2])])

    chosen = op.emit("Gather", [points, op.number(subset)], {"axis": 1})
    turned = op.emit("MatMul", [chosen, matrix(cosine, sine, back, cosine)])
    high, low = (op.emit(kind, [turned, op.number([1])], {"keepdims": 1}) for kind in ("ReduceMax", "ReduceMin"))
    middle = op.emit("Mul", [op.emit("Add", [high, low]), op.number(0.5, np.float32)])
    center = op.emit("MatMul", [middle, matrix(cosine, back, sine, cosine)])  # (1, 1, 2)
    factor = op.emit("Mul", [op.emit("Sub", [high, low]), op.number(scales / sizes, np.float32)])
    part = op.emit("Mul", [matrix(cosine, sine, back, cosine), factor])
    corner = op.number((-sizes / 2).reshape(1, 2, 1), np.float32)
    shift = op.emit("Add", [op.emit("MatMul", [part, corner]), op.emit("Transpose", [center], {"perm": [0, 2, 1]})])
    upper = op.emit("Concat", [part, op.number(np.zeros((1, 2, 1)), np.float32), shift], {"axis": 2})
    lower = op.number([[[0, 0, 1, 0], [0, 0, 0, 1]]], np.float32)
    op.finish(op.emit("Concat", [upper, lower], {"axis": 1}))


def _moved(op: Operation, points: Value, matrix: Value) -> Value:
    """Points (1, n, 2) under the first two rows of a matrix (1, 4, 4)."""
    rows = _part(op, matrix, 1, 0, 2)
    turn = op.emit("Transpose", [_part(op, rows, 2, 0, 2)], {"perm": [0, 2, 1]})
    shift = op.emit("Transpose", [_part(op, rows, 2, 3, 4)], {"perm": [0, 2, 1]})
    return op.emit("Add", [op.emit("MatMul", [points, turn]), shift])


def _part(op: Operation, value: Value, axis: int, first: int, last: int) -> Value:
    return op.emit("Slice", [value, op.number([first]), op.number([last]), op.number([axis])])


def _options(op: Operation) -> dict[str, Any]:
    found = flexible_options(op.file.custom_options)
    if found is None:
        raise op.error("has options that are no map")
    return dict(found)


def _expect_version(op: Operation) -> None:
    if op.file.version != 2:
        raise op.unsupported(f"is version {op.file.version} of itself")
