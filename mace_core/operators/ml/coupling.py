"""Probabilities of classes from the scores of pairs of classes, as support vector machines give them.

J. Platt, "Probabilistic outputs for support vector machines", 1999, for a pair; T.-F. Wu, C.-J. Lin, R. C. Weng,
"Probability estimates for multi-class classification by pairwise coupling", 2004, second approach, for all classes:
the iteration of libsvm, with its bounds and its end, in float32 as in onnxruntime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

COUPLING = ("mace.core", "PairwiseCoupling")
"""The operator as a node: scores (N, pairs) -> (N, classes), with the attributes prob_a, prob_b and classes."""

LEAST = np.float32(1e-7)
"""No class of a pair is less probable."""

MOST_ROUNDS = 100

ACCURACY = 0.005
"""The iteration ends where no equation is off by more than this, divided by the number of classes."""

Floats = npt.NDArray[np.float32]


def coupled(scores: npt.NDArray[Any], slopes: Floats, offsets: Floats, classes: int) -> Floats:
    """Probabilities (N, classes) of scores (N, pairs); pairs are (0, 1), (0, 2), …, (1, 2), … ."""
    rows = scores.shape[0]
    values = scores.astype(np.float32) * slopes + offsets
    with np.errstate(over="ignore"):
        first = np.float32(1) - _logistic(values)
    first = np.clip(first, LEAST, np.float32(1) - LEAST)
    pairs = np.zeros((rows, classes, classes), np.float32)  # [:, i, j]: i, given that it is i or j
    upper, lower = np.triu_indices(classes, 1)
    pairs[:, upper, lower] = first
    pairs[:, lower, upper] = np.float32(1) - first
    return _solve(pairs)


def _logistic(values: Floats) -> Floats:
    small = np.float32(1) / (np.float32(1) + np.exp(-np.abs(values)))
    return np.where(values < 0, np.float32(1) - small, small).astype(np.float32)


def _solve(pairs: Floats) -> Floats:
    rows, classes, _ = pairs.shape
    turned = pairs.transpose(0, 2, 1)
    matrix = -turned * pairs
    for i in range(classes):
        matrix[:, i, i] = np.square(np.delete(pairs[:, :, i], i, axis=1)).sum(1)
    found = np.full((rows, classes), np.float32(1) / np.float32(classes), np.float32)
    accuracy = np.float32(ACCURACY) / np.float32(classes)
    active = np.arange(rows)
    for _ in range(MOST_ROUNDS):
        if not active.size:
            break
        q, p = matrix[active], found[active]
        product = np.einsum("nij,nj->ni", q, p).astype(np.float32)
        total = (p * product).sum(1, dtype=np.float32)
        goes_on = np.abs(product - total[:, None]).max(1) >= accuracy
        active, q, p, product, total = active[goes_on], q[goes_on], p[goes_on], product[goes_on], total[goes_on]
        for i in range(classes):
            own = q[:, i, i]
            step = (total - product[:, i]) / own
            p[:, i] += step
            scale = np.float32(1) + step
            total = (total + step * (step * own + np.float32(2) * product[:, i])) / scale / scale
            product = (product + step[:, None] * q[:, i]) / scale[:, None]
            p /= scale[:, None]
        found[active] = p
    return found
