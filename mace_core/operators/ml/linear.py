"""Linear models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.context import NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.features import label_dtype, length_of, ml_shape_function, rows_and_features
from mace_core.operators.ml.scores import best, class_labels, number, one_of_two, rows, transformed, with_complement
from mace_core.operators.pieces import shaped
from mace_core.operators.registry import agreement, body
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


@ml_shape_function("LinearRegressor")
def linear_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (rows_and_features(ctx)[0], int(ctx.attr("targets", 1))))]


@ml_shape_function("LinearClassifier")
def linear_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    rows, classes = rows_and_features(ctx)[0], length_of(ctx, "intercepts")
    labels = length_of(ctx, "classlabels_strings") or length_of(ctx, "classlabels_ints")
    if not classes:
        raise UnresolvedShapeError
    scores = 2 if classes == 1 and labels == 2 else classes
    return [TensorType(label_dtype(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, scores))]


@agreement("LinearRegressor", "LinearClassifier", domain=DOMAIN)
def enough_coefficients(ctx: NodeContext) -> None:
    """More than enough is what files have that say of their input less than it has."""
    is_regressor = ctx.node.op_type == "LinearRegressor"
    targets = int(ctx.attr("targets", 1)) if is_regressor else length_of(ctx, "intercepts")
    found, features = length_of(ctx, "coefficients"), rows_and_features(ctx)[1]
    if targets < 0 or found < targets * features:
        raise ShapeMismatchError(
            f"{found} coefficients are too few for {targets} target{'' if targets == 1 else 's'} of {features} features"
        )


# --- bodies -----------------------------------------------------------------------------------------------------------


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


@body("LinearRegressor", domain=DOMAIN)
def build_regressor(b: BodyBuilder, node: Node) -> bool:
    """One target knows only the transform PROBIT: the others are those of rows of scores."""
    targets = int(node.attr("targets", 1))
    kind = str(node.attr("post_transform", "NONE"))
    scores = _scores(b, node, targets, with_intercepts=len(node.attr("intercepts") or ()) == targets)
    transformed(b, scores, kind if targets > 1 or kind == "PROBIT" else "NONE", into=made(node))
    return True


def _signs(b: BodyBuilder, node: Node) -> Value:
    """The labels of a single score where the node does not name two."""
    return b.constant(["0", "1"], object) if node.attr("classlabels_strings") else b.constant([0, 1], np.int64)


@body("LinearClassifier", domain=DOMAIN)
def build_classifier(b: BodyBuilder, node: Node) -> bool:
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
