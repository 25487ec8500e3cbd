"""Linear models."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.scheduler.contrib.pieces import shaped
from mace_core.scheduler.contrib.registry import given, made
from mace_core.scheduler.ml.registry import body
from mace_core.scheduler.ml.scores import best, class_labels, number, one_of_two, rows, transformed, with_complement
from mace_core.scheduler.rewriting import BodyBuilder


def _scores(b: BodyBuilder, node: Node, targets: int, *, with_intercepts: bool) -> Value:
    """(N, targets); like onnxruntime, coefficients beyond those that the features need are not read.

    Raises:
        ValueError: where there are too few.
    """
    x, _, features = rows(b, given(node, 0))
    weights = np.asarray(node.attr("coefficients", ()), np.float32)
    if weights.size < targets * features:
        raise ValueError(f"{weights.size} coefficients are too few for {targets} targets of {features} features")
    factors = b.constant(np.ascontiguousarray(weights[: targets * features].reshape(targets, features).T))
    if not with_intercepts:
        return b.op("MatMul", [x, factors])
    return b.op("Gemm", [x, factors, b.constant(list(node.attr("intercepts")), np.float32)])


@body("LinearRegressor")
def _regressor(b: BodyBuilder, node: Node) -> bool:
    """One target knows only the transform PROBIT: the others are those of rows of scores."""
    targets = int(node.attr("targets", 1))
    kind = str(node.attr("post_transform", "NONE"))
    scores = _scores(b, node, targets, with_intercepts=len(node.attr("intercepts") or ()) == targets)
    transformed(b, scores, kind if targets > 1 or kind == "PROBIT" else "NONE", into=made(node))
    return True


def _signs(b: BodyBuilder, node: Node) -> Value:
    """The labels of a single score where the node does not name two."""
    return b.constant(["0", "1"], object) if node.attr("classlabels_strings") else b.constant([0, 1], np.int64)


@body("LinearClassifier")
def _classifier(b: BodyBuilder, node: Node) -> bool:
    """There are as many classes as intercepts; one stands for the second of two, whose sign decides."""
    classes = len(node.attr("intercepts") or ())
    labels = class_labels(b, node, "classlabels_ints")
    count = len(node.attr("classlabels_strings") or node.attr("classlabels_ints") or ())
    kind = str(node.attr("post_transform", "NONE"))
    if not classes:
        return False
    scores = _scores(b, node, classes, with_intercepts=True)
    label, result = node.output(0), node.output(1)
    if classes > 1:
        if labels is None or count < classes:
            return False
        if label is not None:
            best(b, scores, labels, label)
        if result is not None:
            transformed(b, scores, kind, into=result)
        return True
    has_two = labels is not None and count == 2
    if kind == "PROBIT" and has_two:
        return False  # onnxruntime leaves half of the scores unwritten
    if label is not None:
        pair = labels if labels is not None and count == 2 else _signs(b, node)
        is_positive = b.op("Greater", [shaped(b, scores, (-1,)), number(b, 0.0)])
        one_of_two(b, is_positive, pair, label)
    if result is not None:
        if has_two:
            with_complement(b, transformed(b, scores, kind) if kind == "LOGISTIC" else scores, result)
        else:
            transformed(b, scores, kind if kind == "PROBIT" else "NONE", into=result)
    return True
