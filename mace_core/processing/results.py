"""From the outputs of a model to what an application asks: classes, labels, boxes, text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_core.errors import UsageError
from mace_core.graph import Graph, Value
from mace_core.operators.processing import CTC_TEXT
from mace_core.processing.step import AXES_ARE_INPUTS_SINCE, Step, Writer, read_labels, tensor_type
from mace_core.tensor import DType, TensorType


@dataclass(frozen=True)
class Softmax(Step):
    """Scores as probabilities; the output keeps its name.

    Attributes:
        axis: along which they add up to 1.
        port: the output.
    """

    axis: int = -1
    port: str = ""

    def described(self) -> dict[str, Any]:
        return {"step": "softmax", "axis": self.axis}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = _floats(value, "softmax")
        if opset < AXES_ARE_INPUTS_SINCE and self.axis != -1:
            raise UsageError(f"softmax: before opset {AXES_ARE_INPUTS_SINCE}, it is built over the last axis (-1) only")
        w = Writer("softmax", opset)
        scores = w.input(value.name, type.dtype, type.shape or ())
        w.output(w.op("Softmax", [scores], axis=self.axis), value.name, type)
        return w.graph


@dataclass(frozen=True)
class Classes(Step):
    """The classes with the largest scores: outputs ``classes`` (labels if there are some, else int64) and ``scores``,
    (batch, top) each.

    Attributes:
        top: how many, the best first.
        labels: of the classes: texts, a file with one in each line, or ``metadata:KEY`` of the model.
        softmax: the model gives logits.
        port: the output, (batch, classes).
    """

    top: int = 1
    labels: str | Sequence[str] = ()
    softmax: bool = False
    port: str = ""

    def described(self) -> dict[str, Any]:
        labels = self.labels if isinstance(self.labels, str) else f"{len(self.labels)} texts"
        return {"step": "classes", "top": self.top, "labels": labels, "softmax": self.softmax}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = _floats(value, "classes")
        shape = type.shape
        if shape is not None and len(shape) != 2:
            raise UsageError(f"classes: the output '{value.name}' is {type}, and classes are taken of (batch, classes)")
        count = shape[1] if shape is not None and isinstance(shape[1], int) else None
        if self.top < 1 or (count is not None and self.top > count):
            raise UsageError(f"classes: top={self.top} means nothing for the output '{value.name}' of {type}")
        texts = read_labels(self.labels, metadata)
        if texts and count is not None and len(texts) != count:
            raise UsageError(
                f"classes: there are {len(texts)} labels, and the output '{value.name}' has {count} classes"
            )
        w = Writer("classes", opset)
        scores = w.input(value.name, type.dtype, shape or ())
        if self.softmax:
            scores = w.op("Softmax", [scores], axis=-1)
        best, places = w.several("TopK", [scores, w.ints(self.top)], 2, axis=-1)
        named = w.op("Gather", [w.texts(texts), places], axis=0) if texts else w.op("Identity", [places])
        batch = shape[0] if shape is not None else "batch"
        w.output(named, "classes", TensorType(DType.STRING if texts else DType.INT64, (batch, self.top)))
        w.output(best, "scores", TensorType(type.dtype, (batch, self.top)))
        return w.graph


@dataclass(frozen=True)
class Text(Step):
    """What a recognizer of lines (CTC) has read, decoded greedily: the output ``text`` (batch).

    Attributes:
        labels: the text of each class but the blank: texts, a file with one in each line, or ``metadata:KEY``.
        blank: the number of the class that is no text.
        space: a class for the space follows the others.
        port: the output, (batch, time, classes).
    """

    labels: str | Sequence[str] = ()
    blank: int = 0
    space: bool = False
    port: str = ""

    def described(self) -> dict[str, Any]:
        labels = self.labels if isinstance(self.labels, str) else f"{len(self.labels)} texts"
        return {"step": "text", "labels": labels, "blank": self.blank, "space": self.space}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = _floats(value, "text")
        shape = type.shape
        if shape is None or len(shape) != 3:
            raise UsageError(f"text: the output '{value.name}' is {type}, and text is read of (batch, time, classes)")
        texts = [*read_labels(self.labels, metadata), *([" "] if self.space else [])]
        if not texts:
            raise UsageError("text: give the text of each class: labels=FILE or labels=metadata:KEY")
        if not 0 <= self.blank <= len(texts):
            raise UsageError(f"text: the blank is one of {len(texts) + 1} classes, not number {self.blank}")
        texts.insert(self.blank, "")
        if isinstance(shape[2], int) and shape[2] != len(texts):
            raise UsageError(
                f"text: {len(texts)} classes with the blank{' and the space' if self.space else ''}, and the output "
                f"'{value.name}' has {shape[2]}"
            )
        w = Writer("text", opset)
        scores = w.input(value.name, type.dtype, shape)
        numbers = w.op("ArgMax", [scores], axis=2, keepdims=0)
        domain, op_type = CTC_TEXT
        w.graph.opset_imports[domain] = 1
        read = w.op(op_type, [numbers, w.texts(texts)], domain, blank=self.blank)
        w.output(read, "text", TensorType(DType.STRING, (shape[0],)))
        return w.graph


@dataclass(frozen=True)
class Boxes(Step):
    """The boxes that are left when those that overlap a better one of their class are gone, of one picture: outputs
    ``boxes`` (found, 4), ``scores`` (found) and ``classes`` (found).

    Attributes:
        scores: the output with a score for each class, (1, classes, boxes), or (1, boxes, classes) with ``last``.
        iou: overlap, of the union, from which a box is gone.
        score: the least score of a box that stays.
        top: most boxes of a class.
        center: a box is (x, y, width, height) of its center, not (y1, x1, y2, x2).
        last: classes are the last axis of ``scores``.
        labels: of the classes, as for `Classes`.
        port: the output with the boxes, (1, boxes, 4).
    """

    scores: str
    iou: float = 0.5
    score: float = 0.25
    top: int = 100
    center: bool = False
    last: bool = False
    labels: str | Sequence[str] = ()
    port: str = ""

    def described(self) -> dict[str, Any]:
        names = ("iou", "score", "top", "center", "last")
        return {"step": "boxes", **{name: getattr(self, name) for name in names}}

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        type = _floats(value, "boxes")
        texts = read_labels(self.labels, metadata)
        w = Writer("boxes", opset)
        boxes = w.input(value.name, type.dtype, type.shape or ())
        scores = w.input(self.scores, type.dtype, (None, None, None))
        by_class = w.op("Transpose", [scores], perm=(0, 2, 1)) if self.last else scores
        found = w.op(
            "NonMaxSuppression",
            [
                boxes,
                by_class,
                w.ints(self.top),
                w.constant([self.iou], np.float32),
                w.constant([self.score], np.float32),
            ],
            center_point_box=int(self.center),
        )
        numbers = w.op("Gather", [found, w.constant(1, np.int64)], axis=1)
        places = w.op("Gather", [found, w.constant(2, np.int64)], axis=1)
        kept = w.op("Gather", [w.with_axis("Squeeze", boxes, 0), places], axis=0)
        pairs = w.op("Gather", [found, w.ints(1, 2)], axis=1)
        values = w.op("GatherND", [w.with_axis("Squeeze", by_class, 0), pairs])
        named = w.op("Gather", [w.texts(texts), numbers], axis=0) if texts else w.op("Identity", [numbers])
        w.output(kept, "boxes", TensorType(type.dtype, ("found", 4)))
        w.output(values, "scores", TensorType(type.dtype, ("found",)))
        w.output(named, "classes", TensorType(DType.STRING if texts else DType.INT64, ("found",)))
        return w.graph


def _floats(value: Value, step: str) -> TensorType:
    type = tensor_type(value, "output")
    if not type.dtype.is_float:
        raise UsageError(f"{step}: the output '{value.name}' is {type}, and scores are real numbers")
    return type
