"""Tree ensembles as plain arrays, whatever the form in which the node describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node
from mace_core.tensor import DType

Array = npt.NDArray[Any]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
"""By their numbers in TreeEnsemble."""

LEAF, MEMBER = "LEAF", "BRANCH_MEMBER"


@dataclass(frozen=True, slots=True)
class Forest:
    """Nodes of all trees, leaves among them, which lead to themselves.

    Attributes:
        features, splits, modes: what a node compares, with what and how, each (nodes,).
        yes, no: the nodes that follow, each (nodes,).
        missing: whether a NaN follows ``yes``, (nodes,).
        roots: the first node of each tree.
        depth: the most branches on a way to a leaf.
        weights: what a leaf adds to each target, (nodes, targets).
        has: whether it says anything of the target, (nodes, targets).
    """

    features: Array
    splits: Array
    modes: tuple[str, ...]
    yes: Array
    no: Array
    missing: Array
    roots: Array
    depth: int
    weights: Array
    has: Array


def named_forest(node: Node, prefix: str, targets: int) -> Forest:
    """Of TreeEnsembleRegressor (prefix ``target``) and TreeEnsembleClassifier (``class``).

    Raises:
        KeyError: for a branch to a node that is not there.
        ValueError: for lists that do not fit together.
    """
    trees, ids = list(node.attr("nodes_treeids")), list(node.attr("nodes_nodeids"))
    places = {key: place for place, key in enumerate(zip(trees, ids, strict=True))}
    modes = [_text(mode) for mode in node.attr("nodes_modes")]
    follow: list[list[int]] = []
    for name in ("nodes_truenodeids", "nodes_falsenodeids"):
        ends = zip(trees, node.attr(name), modes, strict=True)
        follow.append([place if mode == LEAF else places[t, n] for place, (t, n, mode) in enumerate(ends)])
    splits = _numbers(node, "nodes_values")
    weights, has = _weights(node, prefix, places, targets)
    missing = np.zeros(len(ids), bool)
    tracks = np.asarray(node.attr("nodes_missing_value_tracks_true") or (), bool)[: len(ids)]
    missing[: tracks.size] = tracks
    roots = [place for place, tree in enumerate(trees) if not place or tree != trees[place - 1]]
    features = list(node.attr("nodes_featureids"))
    return _forest(features, splits, modes, follow, missing, roots, weights, has)


def _weights(node: Node, prefix: str, places: Mapping[tuple[int, int], int], targets: int) -> tuple[Array, Array]:
    numbers = _numbers(node, f"{prefix}_weights")
    weights, has = np.zeros((len(places), targets), numbers.dtype), np.zeros((len(places), targets), bool)
    keys = zip(node.attr(f"{prefix}_treeids"), node.attr(f"{prefix}_nodeids"), strict=True)
    for key, target, number in zip(keys, node.attr(f"{prefix}_ids"), numbers, strict=True):
        if not 0 <= target < targets:
            raise ValueError(f"there is no target {target} of {targets}")
        place = places[key]
        if targets > 1 or not has[place, target]:  # of one target, the first weight of a leaf counts
            weights[place, target] += number
            has[place, target] = True
    return weights, has


def numbered_forest(node: Node, targets: int) -> Forest:
    """Of TreeEnsemble.

    Raises:
        ValueError: for lists that do not fit together.
    """
    splits = node.attr("nodes_splits").numpy().reshape(-1)
    modes = [MODES[mode] for mode in node.attr("nodes_modes").numpy().reshape(-1).tolist()]
    leaves = node.attr("leaf_weights").numpy().reshape(-1)
    count = len(modes)
    follow = []
    for side in ("true", "false"):
        ends = zip(node.attr(f"nodes_{side}nodeids"), node.attr(f"nodes_{side}leafs"), strict=True)
        follow.append([end + count if is_leaf else end for end, is_leaf in ends])
    features, missing = list(node.attr("nodes_featureids")), list(node.attr("nodes_missing_value_tracks_true") or ())
    missing += [0] * (count - len(missing))
    weights, has = np.zeros((leaves.size, targets), leaves.dtype), np.zeros((leaves.size, targets), bool)
    for place, (target, number) in enumerate(zip(node.attr("leaf_targetids"), leaves, strict=True)):
        if not 0 <= target < targets:
            raise ValueError(f"there is no target {target} of {targets}")
        weights[place, target], has[place, target] = number, True
    own = list(range(count, count + leaves.size))
    follow = [[*side, *own] for side in follow]
    features, missing = [*features, *[0] * leaves.size], [*missing, *[0] * leaves.size]
    splits = np.concatenate([splits, np.zeros(leaves.size, splits.dtype)])
    modes += [LEAF] * leaves.size
    nothing = np.zeros((count, targets))
    weights = np.concatenate([nothing.astype(weights.dtype), weights])
    has = np.concatenate([nothing.astype(bool), has])
    if MEMBER in modes:
        sets = _sets(node)
        extra = _unrolled_members(features, modes, follow, missing, sets)
        chained = [set_ for _, set_ in extra]
        for place, number in zip([i for i, mode in enumerate(modes) if mode == MEMBER], sets, strict=True):
            splits[place] = number[0]
        splits = np.concatenate([splits, np.asarray(chained, splits.dtype)])
        weights, has = (np.concatenate([a, np.zeros((len(extra), targets), a.dtype)]) for a in (weights, has))
        modes = ["BRANCH_EQ" if mode == MEMBER else mode for mode in modes]
    roots = [int(root) for root in node.attr("tree_roots")]
    return _forest(features, splits, modes, follow, np.asarray(missing, bool), roots, weights, has)


def _sets(node: Node) -> list[list[float]]:
    """The sets of the nodes that ask for membership, in their order; a NaN ends each."""
    sets: list[list[float]] = [[]]
    for number in node.attr("membership_values").numpy().reshape(-1).tolist():
        if np.isnan(number):
            sets.append([])
        else:
            sets[-1].append(number)
    while sets and not sets[-1]:
        sets.pop()
    if any(not one for one in sets):
        raise ValueError("a set of members is empty")
    return sets


def _unrolled_members(
    features: list[int], modes: list[str], follow: list[list[int]], missing: list[int], sets: Sequence[Sequence[float]]
) -> list[tuple[int, float]]:
    """Append a node for every member but the first, each asked where the one before is not met."""
    extra: list[tuple[int, float]] = []
    asking = [place for place, mode in enumerate(modes) if mode == MEMBER]
    for place, members in zip(asking, sets, strict=True):
        last, otherwise = place, follow[1][place]
        for member in members[1:]:
            added = len(features)
            features.append(features[place])
            missing.append(missing[place])
            modes.append("BRANCH_EQ")
            follow[0].append(follow[0][place])
            follow[1].append(otherwise)
            follow[1][last] = added
            extra.append((added, member))
            last = added
    return extra


def _forest(
    features: Sequence[int],
    splits: Array,
    modes: Sequence[str],
    follow: Sequence[Sequence[int]],
    missing: Array,
    roots: Sequence[int],
    weights: Array,
    has: Array,
) -> Forest:
    yes, no = (np.asarray(side, np.int64) for side in follow)
    if not len(features) == splits.size == len(modes) == yes.size == no.size == missing.size:
        raise ValueError("the lists that describe the nodes have different lengths")
    picked = np.where(np.asarray(modes) == LEAF, 0, np.asarray(features, np.int64))
    reached, depth = np.unique(np.asarray(roots, np.int64)), 0
    is_branch = np.asarray([mode != LEAF for mode in modes])
    while is_branch[reached].any():
        branches = reached[is_branch[reached]]
        reached, depth = np.unique(np.concatenate([yes[branches], no[branches]])), depth + 1
        if depth > len(modes):
            raise ValueError("the nodes of a tree lead round in a circle")
    return Forest(picked, splits, tuple(modes), yes, no, missing, np.asarray(roots, np.int64), depth, weights, has)


def _numbers(node: Node, name: str) -> Array:
    tensor = node.attr(f"{name}_as_tensor")
    if tensor is not None and tensor.dtype in (DType.FLOAT32, DType.FLOAT64):
        found: Array = tensor.numpy().reshape(-1)
        return found
    return np.asarray(node.attr(name) or (), np.float32)


def base_values(node: Node) -> Array:
    """What the scores start from; empty where the node does not say."""
    return _numbers(node, "base_values")


def _text(mode: str | bytes) -> str:
    return mode.decode() if isinstance(mode, bytes) else mode
