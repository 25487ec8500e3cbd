"""Tree ensembles of ai.onnx.ml: small trees of any shape, whose splits and features are often equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import ML, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
FUNCTIONS = ("AVERAGE", "SUM", "MIN", "MAX")
"""By their numbers in TreeEnsemble."""

DEEPEST = 4

Leaf = dict[int, float]
"""What a leaf says: numbers by target."""


class Branch:
    """A node that asks, and what follows."""

    def __init__(self, source: Source, features: int, targets: int, modes: tuple[str, ...], depth: int) -> None:
        self.feature = source.integer(0, features - 1)
        self.mode = source.pick(modes)
        self.split = source.number(-2, 2, 0.5)
        self.missing = source.flag()
        self.yes, self.no = (_grown(source, features, targets, modes, depth + 1) for _ in range(2))


def _grown(source: Source, features: int, targets: int, modes: tuple[str, ...], depth: int) -> Branch | Leaf:
    if depth < DEEPEST and (depth == 0 or source.flag()):
        return Branch(source, features, targets, modes, depth)
    return {target: source.number(-3, 3, 0.5) for target in source.subset(targets, least=1)}


def _forest(source: Source, features: int, targets: int) -> list[Branch]:
    modes = MODES if source.flag() else (source.pick(MODES),)
    return [Branch(source, features, targets, modes, 0) for _ in range(source.integer(1, 4))]


@draws("TreeEnsembleRegressor", domain=ML)
def named_trees(source: Source, op: str) -> OpCase:
    features, targets = source.integer(1, 5), source.integer(1, 3)
    x = source.array((source.pick([1, 3, 70]), features), source.pick([np.float32, np.float64]), -2, 2, 0.5)
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    nodes["nodes_missing_value_tracks_true"] = []
    said: dict[str, list[Any]] = {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}

    def add(tree: int, part: Branch | Leaf) -> int:
        """Rows of a node and all behind it; the number of the node."""
        number = nodes["nodes_treeids"].count(tree)
        row = [tree, number, 0, "LEAF", 0.0, 0, 0, 0]
        for column, value in zip(nodes.values(), row, strict=True):
            column.append(value)
        at = len(nodes["nodes_treeids"]) - 1
        if isinstance(part, Branch):
            follow = (add(tree, part.yes), add(tree, part.no))
            row = [tree, number, part.feature, part.mode, part.split, *follow, int(part.missing)]
            for column, value in zip(nodes.values(), row, strict=True):
                column[at] = value
        else:
            for target, weight in part.items():
                for column, value in zip(said.values(), (tree, number, target, weight), strict=True):
                    column.append(value)
        return number

    for tree, root in enumerate(_forest(source, features, targets)):
        add(tree, root)
    attributes: dict[str, Any] = {**nodes, **said, "n_targets": targets}
    attributes["aggregate_function"] = source.pick(FUNCTIONS[::-1])
    return OpCase(op, 17, (x,), attributes, domain=ML, domain_opset=3)


@draws("TreeEnsemble", domain=ML)
def numbered_trees(source: Source, op: str) -> OpCase:
    features, targets = source.integer(1, 5), source.integer(1, 3)
    dtype = source.pick([np.float32, np.float64])
    x = source.array((source.pick([1, 3, 70]), features), dtype, -2, 2, 0.5)
    branches: list[Branch] = []
    leaves: list[tuple[int, float]] = []
    follow: dict[int, list[tuple[int, int]]] = {}

    def add(branch: Branch) -> int:
        number = len(branches)
        branches.append(branch)
        follow[number] = []
        for part in (branch.yes, branch.no):
            if isinstance(part, Branch):
                follow[number].append((add(part), 0))
            else:  # a leaf says one thing here
                leaves.append(next(iter(part.items())))
                follow[number].append((len(leaves) - 1, 1))
        return number

    roots = [add(root) for root in _forest(source, features, targets)]
    numbers = range(len(branches))
    attributes: dict[str, Any] = {
        "n_targets": targets,
        "aggregate_function": source.pick([1, 0, 2, 3]),
        "tree_roots": roots,
        "nodes_featureids": [branch.feature for branch in branches],
        "nodes_modes": np.array([MODES.index(branch.mode) for branch in branches], np.uint8),
        "nodes_splits": np.array([branch.split for branch in branches], dtype),
        "nodes_truenodeids": [follow[number][0][0] for number in numbers],
        "nodes_trueleafs": [follow[number][0][1] for number in numbers],
        "nodes_falsenodeids": [follow[number][1][0] for number in numbers],
        "nodes_falseleafs": [follow[number][1][1] for number in numbers],
        "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": np.array([weight for _, weight in leaves], dtype),
    }
    return OpCase(op, 21, (x,), attributes, domain=ML, domain_opset=5)
