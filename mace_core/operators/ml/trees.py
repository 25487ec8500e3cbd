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
from mace_core.operators.ml.forest import Forest, base_values, named_forest, numbered_forest
from mace_core.operators.ml.scores import best, class_labels, transformed
from mace_core.operators.ml.tree_scores import Asked, Walked, always_said, compared_as, is_leaf, walked
from mace_core.operators.ml.two_classes import TwoScores, two_classes
from mace_core.operators.pieces import cast, dtype_of
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
    forest, base = named_forest(node, "target", targets), base_values(node)
    transform, x = str(node.attr("post_transform", "NONE")), given(node, 0)
    is_plain = (
        not base.size
        and (transform == "NONE" or (targets == 1 and transform != "PROBIT"))
        and len(b.view.shape(x)) > 1
        and dtype_of(b, x) is compared_as(b, x, forest)
    )
    found = walked(b, node, forest) if is_plain else Asked(b, node, forest, "target")
    if found is None:
        return False
    scores = found.scores(str(node.attr("aggregate_function", "SUM")))
    if base.size == targets:
        scores = _from_base(b, scores, base, found.dtype)
        if targets > 1 and not always_said(forest).all():
            # a target of which no leaf says anything is 0 in onnxruntime, whatever its base value
            scores = b.op("Where", [found.reached(), scores, b.constant(0, found.dtype)])
    _finished(b, scores, targets, transform, DType.FLOAT32, made(node))
    return True


@body("TreeEnsemble", domain=DOMAIN)
def build_ensemble(b: BodyBuilder, node: Node) -> bool:
    targets = int(node.attr("n_targets", 1))
    transform = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")[int(node.attr("post_transform", 0))]
    x = given(node, 0)
    if transform == "PROBIT" or (targets > 1 and transform != "NONE"):
        plain = {name: value for name, value in node.attributes.items() if name != "post_transform"}
        scores = b.op("TreeEnsemble", [x], plain, domain=DOMAIN)
    else:
        forest = numbered_forest(node, targets)
        found = walked(b, node, forest)
        if found is None:
            return False
        scores = found.scores(("AVERAGE", "SUM", "MIN", "MAX")[int(node.attr("aggregate_function", 1))])
    _finished(b, scores, targets, transform, dtype_of(b, x), made(node))
    return True


@body("TreeEnsembleClassifier", domain=DOMAIN)
def build_classifier(b: BodyBuilder, node: Node) -> bool:
    labels = class_labels(b, node, "classlabels_int64s")
    if labels is None:
        return False
    classes = b.view.shape(labels)[0] if labels.constant is None else labels.constant.shape[0]
    forest = named_forest(node, "class", classes)
    # labels are chosen by sums in the weights' own type, and what TreeEnsembleRegressor gives is float32
    is_wide = forest.weights.dtype == np.float64
    found = walked(b, node, forest) if is_wide else Asked(b, node, forest, "class")
    if found is None or classes < 2:
        return False
    shape = b.view.shape(given(node, 0))
    rows = shape[0] if len(shape) > 1 else 1
    scores = found.scores("SUM")
    base = base_values(node)
    kind = str(node.attr("post_transform", "NONE"))
    if classes == 2:
        says = [_says(b, forest, found, target) for target in (0, 1)]
        return two_classes(b, node, forest, TwoScores(scores, rows, *says), labels)
    if base.size not in (0, classes):
        return False
    if base.size:
        scores = _from_base(b, scores, base, found.dtype)
    compared = scores
    if not base.size and not always_said(forest).all():
        compared = b.op("Where", [found.reached(), scores, b.constant(-np.inf, found.dtype)])
    if node.output(0) is not None:
        best(b, compared, labels, node.output(0))
    if node.output(1) is not None:
        transformed(b, cast(b, scores, DType.FLOAT32), kind, into=node.output(1))
    return True


def _says(b: BodyBuilder, forest: Forest, found: Walked | Asked, target: int) -> bool | Value:
    """Whether any leaf says something of a target: for all rows alike, or for each, (N, 1)."""
    says = forest.has[is_leaf(forest), target]
    if not says.any() or always_said(forest)[target]:
        return bool(says.any())
    return b.op("Gather", [found.reached(), b.constant([target], np.int64)], {"axis": 1})
