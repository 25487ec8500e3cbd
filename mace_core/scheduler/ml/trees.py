"""Tree ensembles: all rows walk down all trees at once, one level after the other."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.scheduler.contrib.pieces import cast, dtype_of, shaped
from mace_core.scheduler.contrib.registry import given, made
from mace_core.scheduler.ml.forest import LEAF, Array, Forest, base_values, named_forest, numbered_forest
from mace_core.scheduler.ml.registry import body
from mace_core.scheduler.ml.scores import best, class_labels, reduced, transformed
from mace_core.scheduler.ml.two_classes import TwoScores, two_classes
from mace_core.scheduler.rewriting import BodyBuilder
from mace_core.tensor import DType

OPSET_OF_THE_WALK = 12
"""Older ones lack GatherElements, or comparisons of floats."""

MOST_STEPS = 1 << 27
"""Rows times trees times targets, which are held at once."""

MOST_LEVELS = 64

_COMPARE = {
    "BRANCH_LEQ": "LessOrEqual",
    "BRANCH_LT": "Less",
    "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater",
    "BRANCH_EQ": "Equal",
    "BRANCH_NEQ": "Equal",
}


def _leaves(b: BodyBuilder, node: Node, forest: Forest) -> Value | None:
    """The leaf that each row reaches in each tree, (N, trees) of int64; None where there are too many to hold.

    Raises:
        ValueError: for features that the rows do not have.
    """
    x = given(node, 0)
    shape = b.view.shape(x)
    rows, features = (1, shape[0]) if len(shape) == 1 else shape
    if forest.features.size == 0 or forest.features.min() < 0 or forest.features.max() >= features:
        raise ValueError(f"the trees ask for features that rows of {features} do not have")
    trees = len(forest.roots)
    too_many = rows * trees * max(forest.weights.shape[1], 1) > MOST_STEPS or forest.depth > MOST_LEVELS
    if too_many or not rows or b.opset < OPSET_OF_THE_WALK:
        return None
    wide = DType.FLOAT64 if dtype_of(b, x) is DType.FLOAT64 or forest.splits.dtype == np.float64 else DType.FLOAT32
    if dtype_of(b, x) is not wide:
        x = cast(b, x, wide)
    if len(shape) == 1:
        x = shaped(b, x, (1, features))
    places = b.constant(np.tile(forest.roots, (rows, 1)))
    tables = _Tables(b, forest, wide)
    for _ in range(forest.depth):
        places = tables.step(x, places)
    return places


class _Tables:
    """The arrays of a forest as constants."""

    def __init__(self, b: BodyBuilder, forest: Forest, dtype: DType) -> None:
        self.b = b
        self.features = b.constant(forest.features)
        self.splits = b.constant(forest.splits.astype(dtype.numpy))
        self.yes, self.no = b.constant(forest.yes), b.constant(forest.no)
        self.missing = b.constant(forest.missing) if forest.missing.any() else None
        self.kinds = sorted({mode for mode in forest.modes if mode != LEAF})
        order = [self.kinds.index(mode) if mode != LEAF else 0 for mode in forest.modes]
        self.modes = b.constant(np.asarray(order, np.int64))

    def step(self, x: Value, places: Value) -> Value:
        """One level down."""
        b = self.b
        number = b.op("GatherElements", [x, self._at(self.features, places)], {"axis": 1})
        split = self._at(self.splits, places)
        goes = self._compared(self.kinds[0], number, split)
        for index, kind in enumerate(self.kinds[1:], 1):
            is_it = b.op("Equal", [self._at(self.modes, places), b.constant(index, np.int64)])
            goes = b.op("Where", [is_it, self._compared(kind, number, split), goes])
        if self.missing is not None:
            is_lost = b.op("And", [b.op("IsNaN", [number]), self._at(self.missing, places)])
            goes = b.op("Or", [goes, is_lost])
        return b.op("Where", [goes, self._at(self.yes, places), self._at(self.no, places)])

    def _at(self, table: Value, places: Value) -> Value:
        return self.b.op("Gather", [table, places], {"axis": 0})

    def _compared(self, kind: str, number: Value, split: Value) -> Value:
        found = self.b.op(_COMPARE[kind], [number, split])
        return self.b.op("Not", [found]) if kind == "BRANCH_NEQ" else found


def _aggregated(b: BodyBuilder, forest: Forest, leaves: Value, kind: str) -> Value:
    """What the leaves say together, (N, targets)."""
    if kind in ("SUM", "AVERAGE"):
        found = b.op("Gather", [b.constant(forest.weights), leaves], {"axis": 0})
        total = reduced(b, "ReduceSum", found, 1, keep=False)
        if kind == "SUM":
            return total
        return b.op("Div", [total, b.constant(len(forest.roots), forest.weights.dtype)])
    if kind not in ("MIN", "MAX"):
        raise ValueError(f"there is no aggregate function '{kind}'")
    nothing = np.inf if kind == "MIN" else -np.inf
    table = np.where(forest.has, forest.weights, nothing).astype(forest.weights.dtype)
    found = b.op("Gather", [b.constant(table), leaves], {"axis": 0})
    extreme = reduced(b, f"Reduce{kind.title()}", found, 1, keep=False)
    if forest.has.all(where=_is_leaf(forest)[:, None]):
        return extreme
    return b.op("Where", [_reached(b, forest, leaves), extreme, b.constant(0, forest.weights.dtype)])


def _is_leaf(forest: Forest) -> Array:
    return np.asarray([mode == LEAF for mode in forest.modes])


def _reached(b: BodyBuilder, forest: Forest, leaves: Value) -> Value:
    """Whether any leaf says something of the target, (N, targets)."""
    marks = b.op("Gather", [b.constant(forest.has.astype(np.float32)), leaves], {"axis": 0})
    return b.op("Greater", [reduced(b, "ReduceMax", marks, 1, keep=False), b.constant(0, np.float32)])


def _from_base(b: BodyBuilder, scores: Value, base: Array, dtype: np.dtype[np.generic]) -> Value:
    return b.op("Add", [scores, b.constant(base.astype(dtype))])


def _finished(b: BodyBuilder, scores: Value, targets: int, kind: str, dtype: DType, into: Value) -> None:
    """The transform of scores of regressions, in float32, as the element type of the output.

    A single score knows only PROBIT.
    """
    if targets == 1 and kind != "PROBIT":
        kind = "NONE"
    if kind == "NONE":
        cast(b, scores, dtype, into=into)
    else:
        cast(b, transformed(b, cast(b, scores, DType.FLOAT32), kind), dtype, into=into)


@body("TreeEnsembleRegressor")
def _regressor(b: BodyBuilder, node: Node) -> bool:
    targets = int(node.attr("n_targets", 1))
    forest = named_forest(node, "target", targets)
    leaves = _leaves(b, node, forest)
    if leaves is None:
        return False
    scores = _aggregated(b, forest, leaves, str(node.attr("aggregate_function", "SUM")))
    base = base_values(node)
    if base.size == targets:
        scores = _from_base(b, scores, base, forest.weights.dtype)
        if targets > 1 and not forest.has.all(where=_is_leaf(forest)[:, None]):
            # a target of which no leaf says anything is 0 in onnxruntime, whatever its base value
            nothing = b.constant(0, forest.weights.dtype)
            scores = b.op("Where", [_reached(b, forest, leaves), scores, nothing])
    _finished(b, scores, targets, str(node.attr("post_transform", "NONE")), DType.FLOAT32, made(node))
    return True


@body("TreeEnsemble")
def _ensemble(b: BodyBuilder, node: Node) -> bool:
    targets = int(node.attr("n_targets", 1))
    forest = numbered_forest(node, targets)
    leaves = _leaves(b, node, forest)
    if leaves is None:
        return False
    kind = ("AVERAGE", "SUM", "MIN", "MAX")[int(node.attr("aggregate_function", 1))]
    transform = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")[int(node.attr("post_transform", 0))]
    scores = _aggregated(b, forest, leaves, kind)
    _finished(b, scores, targets, transform, dtype_of(b, given(node, 0)), made(node))
    return True


@body("TreeEnsembleClassifier")
def _classifier(b: BodyBuilder, node: Node) -> bool:
    labels = class_labels(b, node, "classlabels_int64s")
    if labels is None:
        return False
    classes = b.view.shape(labels)[0] if labels.constant is None else labels.constant.shape[0]
    forest = named_forest(node, "class", classes)
    leaves = _leaves(b, node, forest)
    if leaves is None or classes < 2:
        return False
    shape = b.view.shape(given(node, 0))
    rows = shape[0] if len(shape) > 1 else 1
    scores = _aggregated(b, forest, leaves, "SUM")
    base = base_values(node)
    kind = str(node.attr("post_transform", "NONE"))
    if classes == 2:
        says = [_says(b, forest, leaves, target) for target in (0, 1)]
        return two_classes(b, node, forest, TwoScores(scores, rows, *says), labels)
    if base.size not in (0, classes):
        return False
    if base.size:
        scores = _from_base(b, scores, base, forest.weights.dtype)
    compared = scores
    if not base.size and not forest.has.all(where=_is_leaf(forest)[:, None]):
        lowest = b.constant(-np.inf, forest.weights.dtype)
        compared = b.op("Where", [_reached(b, forest, leaves), scores, lowest])
    if node.output(0) is not None:
        best(b, compared, labels, node.output(0))
    if node.output(1) is not None:
        transformed(b, cast(b, scores, DType.FLOAT32), kind, into=node.output(1))
    return True


def _says(b: BodyBuilder, forest: Forest, leaves: Value, target: int) -> bool | Value:
    """Whether any leaf says something of a target: for all rows alike, or for each, (N, 1)."""
    says = forest.has[_is_leaf(forest), target]
    if says.all() or not says.any():
        return bool(says.all())
    return b.op("Gather", [_reached(b, forest, leaves), b.constant([target], np.int64)], {"axis": 1})
