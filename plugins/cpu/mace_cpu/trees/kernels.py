"""Tree ensembles: every row walks down every tree, and what its leaves say is put together."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i32, stop_requested
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS
from mace_cpu.trees.arguments import BLOCK, MISSING

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.trees.arguments")

WORDS = {
    "tree_scores": "x y nodes splits roots targets_of weights starts sums features targets trees depth",
}


@helper(inline="always")  # type: ignore[untyped-decorator]
def _at_most(value: Any, split: Any, kind: Any) -> Any:
    return value <= split


@helper(inline="always")  # type: ignore[untyped-decorator]
def _less(value: Any, split: Any, kind: Any) -> Any:
    return value < split


@helper(inline="always")  # type: ignore[untyped-decorator]
def _any_of_six(value: Any, split: Any, kind: Any) -> Any:
    """By number, in the order of `mace_core.operators.ml.forest.MODES`."""
    if kind == 0:
        return value <= split
    if kind == 1:
        return value < split
    if kind == 2:
        return value >= split
    if kind == 3:
        return value > split
    if kind == 4:
        return value == split
    return value != split


_COMPARISONS = {"at_most": _at_most, "less": _less, "any": _any_of_six}

SUM, AVERAGE, LEAST, LARGEST = 0, 1, 2, 3
REDUCTIONS = {"SUM": SUM, "AVERAGE": AVERAGE, "MIN": LEAST, "MAX": LARGEST}


def tree_scores(dtype: str, weight: str, result: str, comparison: str, missing: str, reduction: str) -> Kernel:
    """One unit is a row.

    A node is four int32: its feature (-1: it is a leaf), how it compares, and the nodes that follow where the answer is
    yes and no; of a leaf, the first of its weights and the one behind its last.  ``sums`` holds a number for each of
    `BLOCK` rows and each target, in each chunk.  A target of which no leaf says anything is 0.
    """
    numbers, sums_of, results = POINTERS[dtype], POINTERS[weight], POINTERS[result]
    nbytes, scalar = np.dtype(weight).itemsize, SCALARS[result]
    follows, tracks = _COMPARISONS[comparison], int(missing == "tracked")
    how = REDUCTIONS[reduction]
    adds = how in (SUM, AVERAGE)
    zero = SCALARS[weight](0)
    nothing = zero if adds else SCALARS[weight](np.nan)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        x, y = numbers(args[0]), results(args[1])
        nodes, splits, roots = i32(args[2]), numbers(args[3]), i32(args[4])
        targets_of, weights, starts = i32(args[5]), sums_of(args[6]), sums_of(args[7])
        features, targets, trees, depth = args[9], args[10], args[11], args[12]
        sums = sums_of(args[8] + chunk * BLOCK * targets * nbytes)
        first = begin
        work = 0
        while first < end:
            rows = min(BLOCK, end - first)
            for place in range(rows * targets):
                sums[place] = nothing
            for tree in range(trees):
                work += rows * (depth + 1)
                if work > POLL_WORK:
                    work = 0
                    if stop_requested(args):
                        return
                for row in range(rows):
                    values = (first + row) * features
                    node = roots[tree]
                    feature = nodes[4 * node]
                    while feature >= 0:
                        value = x[values + feature]
                        kind = nodes[4 * node + 1]
                        yes = follows(value, splits[node], kind & 7)
                        if tracks == 1 and value != value and kind >= MISSING:
                            yes = True
                        node = nodes[4 * node + 2] if yes else nodes[4 * node + 3]
                        feature = nodes[4 * node]
                    for leaf in range(nodes[4 * node + 2], nodes[4 * node + 3]):
                        place = row * targets + targets_of[leaf]
                        said, so_far = weights[leaf], sums[place]
                        if adds:
                            sums[place] = so_far + said
                        elif so_far != so_far or (said < so_far if how == LEAST else said > so_far):
                            sums[place] = said
            for row in range(rows):
                for target in range(targets):
                    found = sums[row * targets + target]
                    if how == AVERAGE:
                        found = found / trees
                    elif not adds and found != found:
                        found = zero
                    y[(first + row) * targets + target] = scalar(found + starts[target])
            first += rows

    return kernel
