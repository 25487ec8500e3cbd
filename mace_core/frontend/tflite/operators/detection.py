"""What TensorFlow's detection models end with: boxes from offsets to anchors, the best of them, none twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_core.frontend.tflite.custom import flexible_options
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import custom_converter
from mace_core.graph import Value

_MOST = 1 << 16
"""Detections that are asked for."""


@dataclass(frozen=True)
class _Limits:
    """The options.

    Attributes:
        boxes: at most so many are given.
        of_class: of each class, where every class is chosen from by itself.
        classes: those that there are, without that of the background.
        shown: classes that are given for a box.
        overlap, score: thresholds.
        scales: of y, x, height and width.
    """

    boxes: int
    of_class: int
    classes: int
    shown: int
    overlap: float
    score: float
    scales: tuple[float, float, float, float]


@custom_converter("TFLite_Detection_PostProcess")
def detections(op: Operation) -> None:
    """Offsets (1, n, 4 or more), scores (1, n, classes, with or without a first of the background), anchors (n, 4).

    Gives boxes (1, m, 4), classes (1, m) and scores (1, m), best first, and how many there are; behind them are zeros
    (LiteRT leaves there whatever the memory held).  Without ``use_regular_nms`` a box is left out for one of any class.
    """
    options = flexible_options(op.file.custom_options)
    if options is None or len(op.file.outputs) != 4:
        raise op.error("lacks its options, or has not the four outputs of detections")
    limits = _limits(op, options)
    boxes, scores = _boxes(op, limits), op.real(1)
    count = op.shape(1)[2]
    if count not in (limits.classes, limits.classes + 1):
        raise op.error(f"has {count} scores for a box and {limits.classes} classes")
    if count > limits.classes:
        scores = op.emit("Slice", [scores, *(op.number([at]) for at in (1, count, 2))])
    choose = _of_each_class if options.get("use_regular_nms", False) else _of_all_classes
    for index, value in enumerate(choose(op, limits, boxes, scores)):
        op.finish(value, index)


def _limits(op: Operation, options: Mapping[str, Any]) -> _Limits:
    try:
        classes = int(options["num_classes"])
        found = _Limits(
            boxes=int(options["max_detections"]),
            of_class=int(options.get("detections_per_class", 100)),
            classes=classes,
            shown=int(options["max_classes_per_detection"]),
            overlap=float(options["nms_iou_threshold"]),
            score=float(options["nms_score_threshold"]),
            scales=(
                float(options["y_scale"]),
                float(options["x_scale"]),
                float(options["h_scale"]),
                float(options["w_scale"]),
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise op.error(f"has options that do not say what is detected ({error})") from error
    counts = (found.boxes, found.of_class, found.classes, found.shown)
    if not 1 <= min(counts) <= max(counts) <= _MOST or found.boxes * found.shown > _MOST:
        raise op.error(f"has counts of {', '.join(map(str, counts))}; each is from 1 to {_MOST:,}")
    if not 0 < found.overlap <= 1 or 0 in found.scales:
        raise op.error("has a threshold that is not between 0 and 1, or a scale of 0")
    return found


def _boxes(op: Operation, limits: _Limits) -> Value:
    """Corners (1, n, 4): y and x of the first, then of the last."""
    if len(op.shape(0)) != 3 or len(op.shape(1)) != 3 or len(op.shape(2)) != 2:
        raise op.error("has offsets and scores that are not (1, n, k), or anchors that are not (n, 4)")
    offsets = op.emit("Slice", [op.real(0), *(op.number([at]) for at in (0, 4, 2))])
    y, x, height, width = limits.scales
    scaled = op.emit("Div", [offsets, op.number([y, x, height, width], np.float32)])
    middle, size = _halves(op, scaled, 2)
    anchor, extent = _halves(op, op.real(2), 1)
    middle = op.emit("Add", [op.emit("Mul", [middle, extent]), anchor])
    half = op.emit("Mul", [op.emit("Mul", [op.emit("Exp", [size]), extent]), op.number(0.5, np.float32)])
    corners = [op.emit(kind, [middle, half]) for kind in ("Sub", "Add")]
    return op.emit("Concat", corners, {"axis": 2})


def _halves(op: Operation, value: Value, axis: int) -> list[Value]:
    return [op.emit("Slice", [value, *(op.number([at]) for at in (first, first + 2, axis))]) for first in (0, 2)]


def _suppressed(op: Operation, limits: _Limits, boxes: Value, scores: Value, most: int) -> Value:
    """Pictures, classes and boxes (m, 3) of those that stay; ``scores`` are (1, classes, n)."""
    below = np.nextafter(np.float32(limits.score), np.float32(-np.inf))  # LiteRT takes the threshold itself, too
    if abs(below) < np.finfo(np.float32).tiny:
        below = -np.finfo(np.float32).tiny
    thresholds = (op.number([most]), op.number([limits.overlap], np.float32), op.number([below], np.float32))
    return op.emit("NonMaxSuppression", [boxes, scores, *thresholds])


def _of_all_classes(op: Operation, limits: _Limits, boxes: Value, scores: Value) -> list[Value]:
    """A box stands for its best classes; boxes are compared by the best."""
    shown = min(limits.shown, limits.classes)
    best, classes = op.several("TopK", [scores, op.number([shown])], 2, {"axis": 2})
    first = op.emit("Slice", [best, *(op.number([at]) for at in (0, 1, 2))])
    kept = _suppressed(op, limits, boxes, op.emit("Transpose", [first], {"perm": [0, 2, 1]}), limits.boxes)
    chosen = op.emit("Gather", [kept, op.number(2)], {"axis": 1})
    results = []
    for value in (boxes, op.emit("Cast", [classes], {"to": 1}), best):
        found = op.emit("Gather", [value, chosen], {"axis": 1})
        if value is boxes:
            wide = op.emit("Unsqueeze", [found, op.number([2])])
            found = op.emit("Expand", [wide, op.number([1, 1, shown, 1])])
        if limits.shown > shown:
            rank = 4 if value is boxes else 3
            pads = [0] * (2 * rank)
            pads[rank + 2] = limits.shown - shown
            found = op.emit("Pad", [found, op.number(pads)])
        shape = [1, -1, 4] if value is boxes else [1, -1]
        found = op.emit("Reshape", [found, op.number(shape)])
        count = limits.boxes * limits.shown  # zeros behind them, and of all that the first
        nothing = op.number(np.zeros([1, count, *shape[2:]]), np.float32)
        whole = op.emit("Concat", [found, nothing], {"axis": 1})
        results.append(op.emit("Slice", [whole, *(op.number([at]) for at in (0, count, 1))]))
    return [*results, op.emit("Cast", [op.emit("Shape", [chosen])], {"to": 1})]


def _of_each_class(op: Operation, limits: _Limits, boxes: Value, scores: Value) -> list[Value]:
    """Boxes are compared with those of the same class."""
    turned = op.emit("Transpose", [scores], {"perm": [0, 2, 1]})
    kept = _suppressed(op, limits, boxes, turned, limits.of_class)
    found = op.emit("Unsqueeze", [op.emit("GatherND", [turned, kept]), op.number([0])])
    nothing = op.number(np.full((1, limits.boxes), -np.inf), np.float32)
    best, order = op.several(
        "TopK", [op.emit("Concat", [found, nothing], {"axis": 1}), op.number([limits.boxes])], 2, {"axis": 1}
    )
    order = op.emit("Reshape", [order, op.number([-1])])
    classes, chosen = (op.emit("Gather", [kept, op.number(column)], {"axis": 1}) for column in (1, 2))
    classes = op.emit("Unsqueeze", [op.emit("Cast", [classes], {"to": 1}), op.number([0])])
    results: list[Value] = []
    for value in (op.emit("Gather", [boxes, chosen], {"axis": 1}), classes):
        more = [1, limits.boxes, 4] if not results else [1, limits.boxes]
        whole = op.emit("Concat", [value, op.number(np.zeros(more), np.float32)], {"axis": 1})
        results.append(op.emit("Gather", [whole, order], {"axis": 1}))
    is_there = op.emit("Greater", [best, op.number(-np.inf, np.float32)])
    best = op.emit("Where", [is_there, best, op.number(0, np.float32)])
    count = op.emit("ReduceSum", [op.emit("Cast", [is_there], {"to": 1}), op.number([1])], {"keepdims": 0})
    return [*results, best, count]
