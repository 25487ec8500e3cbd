"""Agreement within tree ensembles: lists of one length, branches that lead to nodes, and no way round in a circle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph.shapes.agreement import agreement, require
from mace_core.graph.shapes.context import Array, NodeContext

ML = "ai.onnx.ml"

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


@agreement("TreeEnsembleRegressor", "TreeEnsembleClassifier", domain=ML)
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


@agreement("TreeEnsemble", domain=ML)
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
        require(size == count, f"'{name}' has {size} elements, and there are {count} of what it tells about")
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
