"""Pruning that makes up for its error in the weights that stay.

Which weights stay is decided group by group, with what earlier groups left to make up for taken into account.  Where
enough outputs share a pattern, the weights that stay are then the least-squares solution for that pattern.  All that is
needed of the data is the Gram matrix of the layer's inputs.

Sources: Frantar and Alistarh, "SparseGPT: Massive language models can be accurately pruned in one-shot" (2023); Hassibi
and Stork, "Second order derivatives for network pruning: Optimal brain surgeon" (1993).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.quantization.weights.gptq import DAMPING, inverse_factor
from mace_core.quantization.weights.gram import squared_error
from mace_core.sparsity.patterns import Pattern, choose_kept

Array: TypeAlias = npt.NDArray[Any]

REFITTED_FROM = 8
"""So many outputs must share a pattern for a least-squares solution of its own."""

LAZY = 128
"""Columns after which the rest of the weights is brought up to date in one product."""


def prune_by_magnitude(weights: Array, pattern: Pattern, taps: int = 1) -> Array:
    """Weights (outputs, inputs * taps) without those of least magnitude."""
    return np.where(_kept(np.abs(weights.astype(np.float64)), pattern, taps), weights, np.float32(0))


def prune_with_data(weights: Array, gram: Array, pattern: Pattern, taps: int = 1) -> Array:
    """Weights (outputs, inputs * taps) pruned for the least squared error of the results.

    The error on the Gram matrix is never above that of `prune_by_magnitude`: where it would be, the weights are what
    the least-squares solution makes of that pattern.

    Args:
        gram: (inputs * taps, inputs * taps): sums of ``x xᵀ``, see `Gram`.
        taps: elements of a kernel, which lie side by side.
    """
    by_magnitude = prune_by_magnitude(weights, pattern, taps)
    if not np.diagonal(gram).any():
        return by_magnitude
    candidates = [_surgeon(weights, gram, pattern, taps), by_magnitude]
    if pattern.shared >= REFITTED_FROM:
        candidates[0] = _refitted(weights, candidates[0] != 0, gram, pattern)
        if squared_error(candidates[0] - weights, gram) > squared_error(by_magnitude - weights, gram):
            candidates.append(_refitted(weights, by_magnitude != 0, gram, pattern))
    return min(candidates, key=lambda found: squared_error(found - weights, gram))


def relative_error(pruned: Array, weights: Array, gram: Array) -> float:
    """Root of the squared error of the results, as a share of the results themselves."""
    whole = squared_error(weights, gram)
    return float(np.sqrt(squared_error(pruned - weights, gram) / whole)) if whole > 0 else 0.0


def _kept(scores: Array, pattern: Pattern, taps: int) -> npt.NDArray[np.bool_]:
    """`choose_kept` of scores (outputs, inputs * taps)."""
    outputs = len(scores)
    kept = choose_kept(scores.reshape(outputs, -1, taps).transpose(0, 2, 1), pattern)
    return kept.transpose(0, 2, 1).reshape(scores.shape)


def _surgeon(weights: Array, gram: Array, pattern: Pattern, taps: int) -> Array:
    """SparseGPT: columns in order; what a pruned one changes is made up for by those after it."""
    factor = inverse_factor(gram, DAMPING).astype(np.float32)
    left = weights.astype(np.float32).copy()
    step = pattern.group * taps
    block = -(-LAZY // step) * step
    kept = np.ones(weights.shape, np.bool_)
    for start in range(0, left.shape[1], block):
        end = min(start + block, left.shape[1])
        errors = np.zeros((len(left), end - start), np.float32)
        for at in range(start, end):
            if (at - start) % step == 0 and at + step <= end:
                group = slice(at, at + step)
                scores = (left[:, group] / np.diagonal(factor)[group]) ** 2
                kept[:, group] = _kept(scores, pattern, taps)
            error = np.where(kept[:, at], np.float32(0), left[:, at] / factor[at, at])
            left[:, at:end] -= np.outer(error, factor[at, at:end])
            errors[:, at - start] = error
        left[:, end:] -= errors @ factor[start:end, end:]
    return np.where(kept, left, np.float32(0))


def _refitted(weights: Array, kept: npt.NDArray[np.bool_], gram: Array, pattern: Pattern) -> Array:
    """The weights that stay, for outputs that share a pattern, as the damped least-squares solution."""
    result = np.zeros(weights.shape, np.float32)
    exact = weights.astype(np.float64)
    damping = DAMPING * float(np.diagonal(gram).mean())
    for first in range(0, len(weights), pattern.shared):
        rows = slice(first, first + pattern.shared)
        columns = kept[rows].any(axis=0)
        matrix = gram[np.ix_(columns, columns)].astype(np.float64)
        matrix[np.diag_indices_from(matrix)] += damping
        lost = gram[np.ix_(columns, ~columns)] @ exact[rows][:, ~columns].T
        change = np.linalg.solve(matrix, lost).T
        result[rows, columns] = (exact[rows][:, columns] + change).astype(np.float32)
    return result
