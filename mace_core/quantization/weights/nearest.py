"""Rounding to the nearest step, with scales that are searched for the least squared error.

The search is that of the "mse" observers in the literature (for instance Banner et al., 2019): the range of each group
is shrunk by several factors, and the best is kept. Weights at the end of a range that is shrunk saturate.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.host.threads import default_threads
from mace_core.quantization.encodings import (
    dequantize,
    encoding_for_range,
    grouped_extremes,
    limits,
    quantize_steps,
    weight_encoding,
)
from mace_core.quantization.grids import Grid
from mace_core.tensor import QuantEncoding

Array: TypeAlias = npt.NDArray[Any]

_FACTORS = {4: np.arange(1.0, 0.49, -0.02), 8: np.arange(1.0, 0.69, -0.03), 16: np.ones(1)}
"""Bits -> by what a range is multiplied; of equals the first wins. 16 bits lose nothing that clipping could save."""

_AT_ONCE = 1 << 16
"""Weights looked at together, so that all steps of the search find them in the cache."""

_WORTH_THREADS = 16
"""So many turns are worth more than one thread."""


class Rounded(NamedTuple):
    """Weights as integers.

    Attributes:
        steps: the integers, int32, in the shape of the weights.
        encoding: what they mean.
    """

    steps: Array
    encoding: QuantEncoding

    def decoded(self) -> Array:
        """The weights that are left, float32."""
        return dequantize(self.steps, self.encoding)


def round_to_nearest(
    weights: Array,
    grid: Grid,
    *,
    axis: int | None = None,
    block_size: int = 0,
    is_searched: bool = True,
    importance: Array | None = None,
) -> Rounded:
    """Weights rounded one by one.

    Args:
        weights: of any shape.
        axis, block_size: what shares a scale, as in `QuantEncoding`.
        is_searched: whether scales are searched; else they span the whole range of each group.
        importance: weights of the squared errors in the search, of a shape that broadcasts to that of the weights (the
            mean square of the input that a weight is multiplied with); None for one.

    Raises:
        UsageError: if a weight is not finite, or there is none.
    """
    if is_searched:
        encoding = searched_encoding(weights, grid, axis=axis, block_size=block_size, importance=importance)
    else:
        encoding = weight_encoding(weights, grid, axis=axis, block_size=block_size)
    return Rounded(quantize_steps(weights, encoding), encoding)


def searched_encoding(
    weights: Array,
    grid: Grid,
    *,
    axis: int | None = None,
    block_size: int = 0,
    importance: Array | None = None,
) -> QuantEncoding:
    """The encoding with the least squared error among those of shrunk ranges; arguments as of `round_to_nearest`."""
    low, high = grouped_extremes(weights, axis=axis, block_size=block_size)
    groups = _in_groups(np.asarray(weights, np.float32), axis, block_size)
    loads = None
    if importance is not None:
        spread = np.broadcast_to(np.asarray(importance, np.float32), np.shape(weights))
        loads = _in_groups(spread, axis, block_size)
    # the shape of the scale, with a blocked axis last, is the order of the groups
    lows, highs = (_scale_rows(end, axis, block_size) for end in (low, high))
    factors = np.ones(len(groups))
    per_turn = max(1, _AT_ONCE // max(groups.shape[1], 1))

    def choose(start: int) -> None:
        part = slice(start, start + per_turn)
        factors[part] = _best_factors(
            groups[part], lows[part], highs[part], grid, None if loads is None else loads[part]
        )

    turns = range(0, len(groups), per_turn)
    with ThreadPoolExecutor(default_threads()) as threads:  # numpy computes outside of Python's lock
        list(threads.map(choose, turns) if len(turns) >= _WORTH_THREADS else map(choose, turns))
    shaped = _scale_shape(factors, low, axis, block_size)
    return encoding_for_range(low * shaped, high * shaped, grid, axis=axis, block_size=block_size)


def _best_factors(groups: Array, low: Array, high: Array, grid: Grid, loads: Array | None) -> Array:
    """For each row of (groups, weights), by what to multiply its range."""
    best, least = np.ones(len(groups)), np.full(len(groups), np.inf)
    lowest, highest = (np.float32(end) for end in limits(grid.dtype))
    error = np.empty_like(groups)
    for factor in _FACTORS[grid.dtype.bits]:
        encoding = encoding_for_range(low * factor, high * factor, grid, axis=0)
        scale, zero = encoding.scale[:, None], encoding.zero_point.astype(np.float32)[:, None]
        # `fake_quantize` in one buffer: the search goes over all weights of a model dozens of times
        with np.errstate(over="ignore"):
            np.rint(np.divide(groups, scale, out=error), out=error)
        np.minimum(np.maximum(error, lowest - zero, out=error), highest - zero, out=error)
        np.square(np.subtract(np.multiply(error, scale, out=error), groups, out=error), out=error)
        losses = error.sum(axis=1) if loads is None else np.einsum("ij,ij->i", error, loads)
        is_better = losses < least
        best[is_better], least[is_better] = factor, losses[is_better]
    return best


def _in_groups(array: Array, axis: int | None, block_size: int) -> Array:
    """An array as (groups, elements), where a row shares a scale; a short last block is filled up with zeros."""
    if axis is None:
        return array.reshape(1, -1)
    if not block_size:
        return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    last = np.moveaxis(array, axis, -1)
    missing = -last.shape[-1] % block_size
    if missing:
        last = np.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, missing)])
    return last.reshape(-1, block_size)


def _scale_rows(end: Array, axis: int | None, block_size: int) -> Array:
    return (np.moveaxis(end, axis, -1) if axis is not None and block_size else end).reshape(-1)


def _scale_shape(rows: Array, like: Array, axis: int | None, block_size: int) -> Array:
    if axis is None or not block_size:
        return rows.reshape(like.shape)
    moved = np.moveaxis(like, axis, -1)
    return np.moveaxis(rows.reshape(moved.shape), -1, axis)
