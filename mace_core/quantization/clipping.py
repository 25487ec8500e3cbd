"""Where to clip a distribution given as a histogram."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.quantization.grids import Grid

Array: TypeAlias = npt.NDArray[Any]

_ENTROPY_CANDIDATES = 128
"""Thresholds that "entropy" compares, at the most."""

_LITTLE = 1e-4
"""Numbers that a level counts as having where it has none, so that a logarithm stays finite; as in onnxruntime."""

_MSE_SHRINKS = np.linspace(1.0, 0.05, 96)
"""Parts of the whole range that "mse" compares first."""


def percentile_range(counts: Array, edges: Array, low: float, high: float, percentile: float) -> tuple[float, float]:
    """The range that holds ``percentile`` percent of the numbers, interpolated within bins.

    Args:
        counts: (bins,).
        edges: (bins + 1,).
        low, high: the smallest and largest number.
    """
    total = int(counts.sum())
    below = np.concatenate([[0], np.cumsum(counts)]) / max(total, 1)
    cut = (1.0 - percentile / 100.0) / 2
    if cut * total < 1.0 and percentile == 100.0:
        return low, high
    first = float(_first_reaching(below, edges, cut))
    last = float(-_first_reaching(1.0 - below[::-1], -edges[::-1], cut))
    return min(max(first, low), high), max(min(last, high), low)


def _first_reaching(share: Array, edges: Array, cut: float) -> float:
    """Where the share of numbers to the left grows beyond ``cut``."""
    place = int(np.searchsorted(share, cut, side="right")) - 1
    place = min(place, len(share) - 2)
    within = (cut - share[place]) / max(share[place + 1] - share[place], np.finfo(np.float64).tiny)
    return float(edges[place] + min(within, 1.0) * (edges[place + 1] - edges[place]))


def entropy_range(counts: Array, edges: Array, zeros: int, low: float, high: float, grid: Grid) -> tuple[float, float]:
    """The threshold on magnitudes for which the quantized distribution tells the most of the true one.

    For each threshold, what lies beyond is added to the last bin (as saturation does), the bins are merged into as many
    levels as the grid has on one side, each level is spread again over those of its bins that hold anything, and the
    divergence of the two is taken. Numbers that are all of one sign keep their other end.

    Args:
        counts, edges, low, high: as of `percentile_range`.
        zeros: numbers that are exactly zero. They stay zero in any range, and are left out: behind a Relu they would
            outweigh all others.
    """
    half = len(counts) // 2
    folded = counts[half:].astype(np.float64)
    folded[0] -= zeros
    folded += counts[:half][::-1]
    used = int(np.flatnonzero(folded)[-1]) + 1 if folded.any() else 0
    is_two_sided = low < 0.0 < high
    levels = (grid.steps + 1) // 2 if is_two_sided or grid.is_symmetric else grid.steps + 1
    levels = min(levels, 128)  # a histogram holds no more detail; 16-bit grids lose next to nothing either way
    if used <= levels:
        return low, high
    sizes = np.unique(np.linspace(levels, used, min(_ENTROPY_CANDIDATES, used - levels + 1)).astype(int))
    losses = [_divergence(folded, int(size), levels) for size in sizes]
    best = int(sizes[len(sizes) - 1 - int(np.argmin(losses[::-1]))])  # of equals the widest
    if best == used:
        return low, high
    threshold = float(edges[half + best])
    return max(low, -threshold), min(high, threshold)


def _divergence(folded: Array, size: int, levels: int) -> float:
    """Kullback-Leibler divergence of magnitudes clipped to ``size`` bins from the same in ``levels`` levels."""
    true = folded[:size].copy()
    true[-1] += folded[size:].sum()
    is_filled = true > 0
    level_of = np.arange(size) * levels // size
    sums = np.bincount(level_of, weights=folded[:size], minlength=levels)  # of what lies within, without saturation
    filled = np.bincount(level_of, weights=is_filled, minlength=levels)
    spread = sums[level_of] / np.maximum(filled[level_of], 1)
    p = true[is_filled] / true.sum()
    q = np.maximum(spread[is_filled] / max(spread[is_filled].sum(), 1.0), _LITTLE / true.sum())
    return float(np.sum(p * np.log(p / q)))


def mse_range(counts: Array, edges: Array, zeros: int, low: float, high: float, grid: Grid) -> tuple[float, float]:
    """The range with the least squared error over the histogram.

    Args:
        counts, edges, low, high: as of `percentile_range`.
        zeros: numbers that are exactly zero; they have no error in any range.
    """
    weights = counts.astype(np.float64)
    weights[len(counts) // 2] -= zeros
    filled = np.flatnonzero(weights > 0)
    if not len(filled):
        return low, high
    centers = np.clip((edges[filled] + edges[filled + 1]) / 2, low, high)
    weights = weights[filled]
    width = float(edges[1] - edges[0])

    def loss(first: float, last: float) -> float:
        return _squared_error(centers, weights, width, first, last, grid)

    def best(pairs: list[tuple[float, float]]) -> tuple[float, float]:
        return min(pairs, key=lambda pair: loss(*pair))  # of equals the first, which is the widest

    chosen = best([(low * part, high * part) for part in _MSE_SHRINKS])
    if grid.is_symmetric or low >= 0.0 or high <= 0.0:
        return chosen
    for _ in range(2):  # each end by itself, in turn
        chosen = best([chosen, *((low * part, chosen[1]) for part in _MSE_SHRINKS)])
        chosen = best([chosen, *((chosen[0], high * part) for part in _MSE_SHRINKS)])
    return chosen


def _squared_error(centers: Array, weights: Array, width: float, low: float, high: float, grid: Grid) -> float:
    """Of numbers at ``centers`` of bins ``width`` wide, when they are quantized in the range."""
    low, high = min(low, 0.0), max(high, 0.0)
    if grid.is_symmetric:
        step = max(-low, high) / (grid.greatest - grid.middle)
        lowest, highest = (grid.least - grid.middle) * step, (grid.greatest - grid.middle) * step
    else:
        step = (high - low) / grid.steps
        zero = np.rint(-low / step) if step else 0.0
        lowest, highest = -zero * step, (grid.steps - zero) * step
    if not step:
        return float(np.dot(weights, centers * centers))
    clipped = np.clip(centers, lowest, highest)
    if step < width:  # the histogram says nothing of places within a step: they are as good as evenly spread
        error = centers - clipped
        return float(np.dot(weights, error * error + np.where(error == 0, step * step / 12, 0.0)))
    error = centers - np.rint(clipped / step) * step
    return float(np.dot(weights, error * error))
