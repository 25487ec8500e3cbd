"""What trees say of rows: by an operator that a device has a kernel for, or by a walk of operators of the standard."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, Node, Value
from mace_core.graph import AttributeKind as K
from mace_core.operators.bodies import BodyBuilder, given
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.forest import LEAF, Forest
from mace_core.operators.ml.scores import number, reduced
from mace_core.operators.pieces import cast, dtype_of, shaped
from mace_core.tensor import DType

Array = npt.NDArray[Any]

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


def expect_features(b: BodyBuilder, node: Node, forest: Forest) -> None:
    """Raises ValueError for features that the rows do not have."""
    features = b.view.shape(given(node, 0))[-1]
    if forest.features.size == 0 or forest.features.min() < 0 or forest.features.max() >= features:
        raise ValueError(f"the trees ask for features that rows of {features} do not have")


def compared_as(b: BodyBuilder, x: Value, forest: Forest) -> DType:
    return DType.FLOAT64 if dtype_of(b, x) is DType.FLOAT64 or forest.splits.dtype == np.float64 else DType.FLOAT32


def rows_of(b: BodyBuilder, node: Node, forest: Forest) -> Value:
    """The features as (N, F), of the type in which they are compared."""
    x = given(node, 0)
    shape, wide = b.view.shape(x), compared_as(b, x, forest)
    if dtype_of(b, x) is not wide:
        x = cast(b, x, wide)
    return shaped(b, x, (1, shape[0])) if len(shape) == 1 else x


def leaves_of(b: BodyBuilder, node: Node, forest: Forest) -> Value | None:
    """The leaf that each row reaches in each tree, (N, trees) of int64; None where there are too many to hold."""
    x = given(node, 0)
    shape = b.view.shape(x)
    rows = 1 if len(shape) == 1 else shape[0]
    expect_features(b, node, forest)
    trees = len(forest.roots)
    too_many = rows * trees * max(forest.weights.shape[1], 1) > MOST_STEPS or forest.depth > MOST_LEVELS
    if too_many or not rows or b.opset < OPSET_OF_THE_WALK:
        return None
    wide, x = compared_as(b, x, forest), rows_of(b, node, forest)
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
        feature = b.op("GatherElements", [x, self._at(self.features, places)], {"axis": 1})
        split = self._at(self.splits, places)
        goes = self._compared(self.kinds[0], feature, split)
        for index, kind in enumerate(self.kinds[1:], 1):
            is_it = b.op("Equal", [self._at(self.modes, places), b.constant(index, np.int64)])
            goes = b.op("Where", [is_it, self._compared(kind, feature, split), goes])
        if self.missing is not None:
            is_lost = b.op("And", [b.op("IsNaN", [feature]), self._at(self.missing, places)])
            goes = b.op("Or", [goes, is_lost])
        return b.op("Where", [goes, self._at(self.yes, places), self._at(self.no, places)])

    def _at(self, table: Value, places: Value) -> Value:
        return self.b.op("Gather", [table, places], {"axis": 0})

    def _compared(self, kind: str, feature: Value, split: Value) -> Value:
        found = self.b.op(_COMPARE[kind], [feature, split])
        return self.b.op("Not", [found]) if kind == "BRANCH_NEQ" else found


class Walked:
    """Scores by operators of the standard: of every row, the leaf it reaches in each tree, and what those say."""

    def __init__(self, b: BodyBuilder, forest: Forest, leaves: Value) -> None:
        self._b, self._forest, self._leaves = b, forest, leaves
        self.dtype: np.dtype[np.generic] = forest.weights.dtype

    def scores(self, kind: str) -> Value:
        """What the leaves say together, (N, targets).

        Raises:
            ValueError: for an aggregate function that there is not.
        """
        b, forest = self._b, self._forest
        if kind in ("SUM", "AVERAGE"):
            total = reduced(b, "ReduceSum", self._said(forest.weights), 1, keep=False)
            return total if kind == "SUM" else b.op("Div", [total, b.constant(len(forest.roots), self.dtype)])
        if kind not in ("MIN", "MAX"):
            raise ValueError(f"there is no aggregate function '{kind}'")
        nothing = np.inf if kind == "MIN" else -np.inf
        table = np.where(forest.has, forest.weights, nothing).astype(self.dtype)
        extreme = reduced(b, f"Reduce{kind.title()}", self._said(table), 1, keep=False)
        if always_said(forest).all():
            return extreme
        return b.op("Where", [self.reached(), extreme, b.constant(0, self.dtype)])

    def reached(self) -> Value:
        """Whether any leaf says something of the target, (N, targets)."""
        marks = self._said(self._forest.has.astype(np.float32))
        return self._b.op("Greater", [reduced(self._b, "ReduceMax", marks, 1, keep=False), number(self._b, 0.0)])

    def _said(self, table: Array) -> Value:
        return self._b.op("Gather", [self._b.constant(table), self._leaves], {"axis": 0})


class Asked:
    """Scores by TreeEnsembleRegressor, without transform and base values.

    Args:
        prefix: of the attributes that tell what leaves say, ``target`` or ``class``.
    """

    dtype: np.dtype[np.generic] = np.dtype(np.float32)

    def __init__(self, b: BodyBuilder, node: Node, forest: Forest, prefix: str) -> None:
        expect_features(b, node, forest)
        self._b, self._x = b, rows_of(b, node, forest)
        self._attributes: dict[str, Any] = {"n_targets": forest.weights.shape[1]}
        for name, value in node.attributes.items():
            if name.startswith("nodes_"):
                self._attributes[name] = value
            elif name.startswith((f"{prefix}_treeids", f"{prefix}_nodeids", f"{prefix}_ids", f"{prefix}_weights")):
                self._attributes["target" + name.removeprefix(prefix)] = value

    def scores(self, kind: str) -> Value:
        """See `Walked.scores`."""
        return self._b.op("TreeEnsembleRegressor", [self._x], self._with(kind), domain=DOMAIN)

    def reached(self) -> Value:
        """See `Walked.reached`."""
        marks = self._with("MAX")
        marks.pop("target_weights_as_tensor", None)
        ones = (1.0,) * len(marks["target_ids"].value)
        marks["target_weights"] = Attribute(K.FLOATS, ones)
        most = self._b.op("TreeEnsembleRegressor", [self._x], marks, domain=DOMAIN)
        return self._b.op("Greater", [most, number(self._b, 0.0)])

    def _with(self, kind: str) -> dict[str, Any]:
        return {**self._attributes, "aggregate_function": kind}


def walked(b: BodyBuilder, node: Node, forest: Forest) -> Walked | None:
    """By a walk; None where that cannot be."""
    leaves = leaves_of(b, node, forest)
    return None if leaves is None else Walked(b, forest, leaves)


def is_leaf(forest: Forest) -> Array:
    """Of each node, (nodes,)."""
    return np.asarray([mode == LEAF for mode in forest.modes])


def always_said(forest: Forest) -> Array:
    """Of which targets every row's leaves say something: all leaves of one tree at least do, (targets,)."""
    leaf = is_leaf(forest)
    said = np.asarray(forest.has[leaf].all(0))
    ends = np.concatenate([forest.roots, forest.yes[~leaf], forest.no[~leaf]])
    if said.all() or np.unique(ends).size < ends.size:  # a node that belongs to two trees
        return said
    tree = np.full(leaf.size, -1)
    at, tree[forest.roots] = forest.roots, np.arange(forest.roots.size)
    while at.size:
        branches = at[~leaf[at]]
        for side in (forest.yes, forest.no):
            tree[side[branches]] = tree[branches]
        at = np.concatenate([forest.yes[branches], forest.no[branches]])
    by_tree = np.ones((forest.roots.size, said.size), bool)
    known = leaf & (tree >= 0)
    np.logical_and.at(by_tree, tree[known], forest.has[known])
    return said | by_tree.any(0)
