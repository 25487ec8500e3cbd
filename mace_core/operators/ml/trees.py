"""Tree ensembles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import AttributeKind as K
from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import LARGEST_NUMBER, code, numbers, of_kind
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import require
from mace_core.operators.context import Array, NodeContext
from mace_core.operators.ml import DOMAIN
from mace_core.operators.ml.features import label_dtype, length_of, ml_shape_function, rows_and_features
from mace_core.operators.ml.forest import LEAF, Forest, base_values, named_forest, numbered_forest
from mace_core.operators.ml.scores import best, class_labels, reduced, transformed
from mace_core.operators.ml.two_classes import TwoScores, two_classes
from mace_core.operators.pieces import cast, dtype_of, shaped
from mace_core.operators.registry import agreement, body
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

_NODES = numbers(0, LARGEST_NUMBER)

attribute_rules(
    "TreeEnsemble",
    domain=DOMAIN,
    rules={
        "aggregate_function": code(0, 1, 2, 3),
        "post_transform": code(0, 1, 2, 3, 4),
        **dict.fromkeys(("nodes_falsenodeids", "nodes_truenodeids"), _NODES),
        **dict.fromkeys(("nodes_modes", "nodes_splits", "leaf_weights", "membership_values"), of_kind(K.TENSOR)),
        "nodes_hitrates": of_kind(K.TENSOR),
    },
)


# --- shapes -----------------------------------------------------------------------------------------------------------


@ml_shape_function("TreeEnsembleRegressor")
def tree_regressor(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, (rows_and_features(ctx)[0], int(ctx.attr("n_targets", 1))))]


@ml_shape_function("TreeEnsembleClassifier")
def tree_classifier(ctx: NodeContext) -> Sequence[ValueType | None]:
    rows = rows_and_features(ctx)[0]
    classes = length_of(ctx, "classlabels_strings") or length_of(ctx, "classlabels_int64s")
    return [TensorType(label_dtype(ctx), (rows,)), TensorType(DType.FLOAT32, (rows, classes))]


@ml_shape_function("TreeEnsemble")
def tree_ensemble(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), (rows_and_features(ctx)[0], int(ctx.attr("n_targets", 1))))]


# --- agreement --------------------------------------------------------------------------------------------------------

MEMBER = 6
"""The last of the modes of TreeEnsemble: whether a feature is a member of a set."""


def _no_circle(branches: Sequence[Sequence[int]]) -> bool:
    """Whether no walk along ``branches`` (node -> nodes) comes back to where it was."""
    waiting = [0] * len(branches)
    for targets in branches:
        for target in targets:
            waiting[target] += 1
    free = [node for node, count in enumerate(waiting) if not count]
    passed = 0
    while free:
        passed += 1
        for target in branches[free.pop()]:
            waiting[target] -= 1
            if not waiting[target]:
                free.append(target)
    return passed == len(branches)


@agreement("TreeEnsembleRegressor", "TreeEnsembleClassifier", domain=DOMAIN)
def trees_by_name(ctx: NodeContext) -> None:
    trees, ids, modes = (tuple(ctx.attr(f"nodes_{name}") or ()) for name in ("treeids", "nodeids", "modes"))
    yes, no = (tuple(ctx.attr(f"nodes_{name}") or ()) for name in ("truenodeids", "falsenodeids"))
    features = tuple(ctx.attr("nodes_featureids") or ())
    sizes = {len(items) for items in (trees, ids, modes, yes, no, features)}
    require(len(sizes) == 1, f"the lists that describe the nodes of the trees have different lengths, {sorted(sizes)}")
    places = {key: place for place, key in enumerate(zip(trees, ids, strict=True))}
    require(len(places) == len(ids), "two nodes of one tree have the same number")
    branches: list[list[int]] = []
    for tree, number, mode, *targets in zip(trees, ids, modes, yes, no, strict=True):
        keys = [] if mode == "LEAF" else [(tree, target) for target in targets]
        require(all(key in places for key in keys), f"node {number} of tree {tree} leads to a node that is not there")
        branches.append([places[key] for key in keys])
    require(_no_circle(branches), "the nodes of a tree lead round in a circle")
    kind = "target" if ctx.node.op_type == "TreeEnsembleRegressor" else "class"
    lists = [tuple(ctx.attr(f"{kind}_{name}") or ()) for name in ("treeids", "nodeids", "ids")]
    weights = ctx.attr(f"{kind}_weights_as_tensor")
    lengths = {*map(len, lists), len(ctx.attr(f"{kind}_weights") or ()) if weights is None else weights.size}
    require(len(lengths) == 1, f"the lists that describe what leaves give have different lengths, {sorted(lengths)}")
    require(
        all(key in places for key in zip(lists[0], lists[1], strict=True)),
        "a weight belongs to a node that is not there",
    )
    results = int(ctx.attr("n_targets", 1)) if kind == "target" else _classes(ctx)
    require(max(lists[2], default=0) < max(results, 1), f"a weight belongs to none of the {results} results")


def _classes(ctx: NodeContext) -> int:
    return len(ctx.attr("classlabels_strings") or ctx.attr("classlabels_int64s") or ())


@agreement("TreeEnsemble", domain=DOMAIN)
def trees_by_place(ctx: NodeContext) -> None:
    yes, no = (tuple(ctx.attr(f"nodes_{name}") or ()) for name in ("truenodeids", "falsenodeids"))
    yes_leaf, no_leaf = (tuple(ctx.attr(f"nodes_{name}") or ()) for name in ("trueleafs", "falseleafs"))
    features = tuple(ctx.attr("nodes_featureids") or ())
    sizes = {len(items) for items in (yes, no, yes_leaf, no_leaf, features)}
    require(len(sizes) == 1, f"the lists that describe the nodes of the trees have different lengths, {sorted(sizes)}")
    leaves = len(ctx.attr("leaf_targetids") or ())
    branches: list[list[int]] = []
    for number, ends in enumerate(zip(zip(yes, yes_leaf, strict=True), zip(no, no_leaf, strict=True), strict=True)):
        require(
            all(0 <= target < (leaves if leaf else len(yes)) for target, leaf in ends),
            f"node {number} leads to a node or leaf that is not there",
        )
        branches.append([target for target, leaf in ends if not leaf])
    roots = tuple(ctx.attr("tree_roots") or ())
    require(all(0 <= root < max(len(yes), 1) for root in roots), f"the roots {list(roots)[:9]} are not all nodes")
    _agree_on_nodes_and_leaves(ctx, len(yes), leaves)
    # a tree of a single leaf is written as a node that leads to that leaf on both sides
    require(_no_circle(branches), "the nodes of a tree lead round in a circle")


def _agree_on_nodes_and_leaves(ctx: NodeContext, nodes: int, leaves: int) -> None:
    """What is told of nodes and leaves by tensors, and of the sets that nodes ask for membership in."""
    for name, count in (("nodes_splits", nodes), ("nodes_modes", nodes), ("leaf_weights", leaves)):
        size = _content(ctx, name).size
        require(size == count, f"'{name}' has {size} elements; {count} were expected")
    for name in ("nodes_hitrates", "nodes_missing_value_tracks_true"):
        if (given := ctx.attr(name)) is not None:
            size = given.size if hasattr(given, "size") else len(given)
            require(size == nodes, f"'{name}' has {size} elements, and there are {nodes} nodes")
    targets = int(ctx.attr("n_targets", 1))
    require(
        all(0 <= target < targets for target in ctx.attr("leaf_targetids") or ()),
        f"a leaf belongs to none of the {targets} targets",
    )
    modes = _content(ctx, "nodes_modes").reshape(-1).tolist()
    require(all(0 <= mode <= MEMBER for mode in modes), f"a node has a mode that is none of 0 to {MEMBER}")
    asking = modes.count(MEMBER)
    members = _content(ctx, "membership_values").reshape(-1)
    ends = np.isnan(members.astype(np.float64))
    sets = np.split(members, np.flatnonzero(ends))
    sizes = [int((~np.isnan(one.astype(np.float64))).sum()) for one in sets]
    while sizes and not sizes[-1]:
        sizes.pop()
    require(
        len(sizes) == asking and all(sizes),
        f"{asking} nodes ask for membership, and 'membership_values' has {len(sizes)} sets ({sizes.count(0)} empty)",
    )


def _content(ctx: NodeContext, name: str) -> Array:
    """The elements of an attribute that is a tensor; none where it is not there."""
    given = ctx.attr(name)
    found: Array = np.zeros(0, np.float32) if given is None else given.numpy()
    return found


# --- bodies -----------------------------------------------------------------------------------------------------------

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


@body("TreeEnsembleRegressor", domain=DOMAIN)
def build_regressor(b: BodyBuilder, node: Node) -> bool:
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


@body("TreeEnsemble", domain=DOMAIN)
def build_ensemble(b: BodyBuilder, node: Node) -> bool:
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


@body("TreeEnsembleClassifier", domain=DOMAIN)
def build_classifier(b: BodyBuilder, node: Node) -> bool:
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
