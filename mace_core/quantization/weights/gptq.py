"""Rounding that makes up for its error in the weights that are still to be rounded (GPTQ).

Source: Frantar et al., "GPTQ: Accurate post-training quantization for generative pre-trained transformers" (2023); the
polish after it is coordinate descent on the same error, as in Behdin et al., "QuantEase" (2023). Input channels are
rounded one after the other; what a rounding changes in the result is taken back, as well as it can be, by the channels
that follow. The inverse of the damped Gram matrix says by how much.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.quantization.encodings import expanded, limits, quantize_steps
from mace_core.quantization.grids import Grid
from mace_core.quantization.weights.gram import check_gram, squared_error
from mace_core.quantization.weights.nearest import Rounded, searched_encoding
from mace_core.tensor import QuantEncoding

Array: TypeAlias = npt.NDArray[Any]

DAMPING = 0.01
"""Part of the mean diagonal that is added to the diagonal of the Gram matrix."""

SWEEPS = 1
"""Of coordinate descent after the last channel; a second gains less than a tenth of a decibel."""

_LAZY = 128
"""Channels after which the rest of the weights is brought up to date in one product."""

_LEAST_OWN = 1e-12
"""Part of the largest diagonal below which a channel's own share of the error is lost in float32."""


def gptq(
    weights: Array,
    gram: Array,
    grid: Grid,
    *,
    block_size: int = 0,
    encoding: QuantEncoding | None = None,
    damping: float = DAMPING,
    by_activation: bool = True,
    sweeps: int = SWEEPS,
) -> Rounded:
    """Weights rounded for the least squared error of the results on calibration data.

    The error on the Gram matrix is never above that of rounding to the nearest with searched scales: where it would be
    (a matrix of few rows may be that ill-conditioned), the nearest are returned.

    Args:
        weights: (results, inputs).
        gram: (inputs, inputs): see `Gram`.
        block_size: inputs that share a scale; 0 for one scale for each result.
        encoding: scales that are given, one for each result or one for all; found where there are none.
        damping: see `DAMPING`.
        by_activation: whether channels with large inputs are rounded first ("act-order"); scales are then those of the
            weights before rounding.
        sweeps: see `SWEEPS`.

    Returns:
        Integers in the shape of the weights, and their encoding: along axis 1 in blocks, along axis 0, or as given.

    Raises:
        UsageError: if a weight is not finite, or the matrix does not fit the weights.
    """
    weights = np.asarray(weights, np.float32)
    check_gram(gram, weights)
    importance = np.maximum(np.diagonal(gram), 0.0)
    importance = importance / max(importance.max(initial=0.0), np.finfo(np.float64).tiny)
    if encoding is None:
        axis = 1 if block_size else 0
        encoding = searched_encoding(weights, grid, axis=axis, block_size=block_size, importance=importance[None])
    nearest = Rounded(quantize_steps(weights, encoding), encoding)
    if not importance.any():
        return nearest
    found = _compensated(weights, gram, grid, nearest.encoding, damping, by_activation, bool(block_size))
    if sweeps:
        found = polished(weights, gram, found, sweeps)
    return min((nearest, found), key=lambda one: squared_error(one.decoded() - weights, gram))


def _compensated(
    weights: Array,
    gram: Array,
    grid: Grid,
    encoding: QuantEncoding,
    damping: float,
    by_activation: bool,
    has_blocks: bool,
) -> Rounded:
    """GPTQ itself: with the scales of ``encoding``, or, for blocks in natural order, with scales found on the way."""
    results, inputs = weights.shape
    order = np.argsort(-np.diagonal(gram), kind="stable") if by_activation else np.arange(inputs)
    pull = inverse_factor(gram[np.ix_(order, order)], damping).astype(np.float32)
    scale = np.broadcast_to(expanded(encoding.scale, encoding, weights.shape), weights.shape).T[order].copy()
    zero = expanded(encoding.zero_point.astype(np.int32), encoding, weights.shape)
    zero = np.broadcast_to(zero, weights.shape).T[order].astype(np.float32)
    lowest, highest = limits(encoding.dtype)
    left = weights.T[order].copy()  # a channel is a row of it
    steps = np.empty((inputs, results), np.float32)
    is_dynamic = has_blocks and not by_activation
    scales, zeros = encoding.scale.copy(), encoding.zero_point.copy()
    for start in range(0, inputs, _LAZY):
        end = min(start + _LAZY, inputs)
        errors = np.empty((end - start, results), np.float32)
        for at in range(start, end):
            if is_dynamic and at % encoding.block_size == 0:
                last = min(at + encoding.block_size, inputs)
                pending = left[at:last].copy()
                if last > end:  # these have not heard of the channels since ``start``
                    pending[end - at :] -= pull[start:at, end:last].T @ errors[: at - start]
                block = searched_encoding(pending.T, grid, axis=0)
                scale[at:last], zero[at:last] = block.scale, block.zero_point.astype(np.float32)
                number = at // encoding.block_size
                scales[:, number], zeros[:, number] = block.scale, block.zero_point
            steps[at] = np.clip(np.rint(left[at] / scale[at]) + zero[at], lowest, highest)
            error = (left[at] - (steps[at] - zero[at]) * scale[at]) / pull[at, at]
            left[at:end] -= np.outer(pull[at, at:end], error)
            errors[at - start] = error
        left[end:] -= pull[start:end, end:].T @ errors
    restored = np.empty((results, inputs), np.int32)
    restored[:, order] = steps.T.astype(np.int32)
    return Rounded(restored, QuantEncoding(encoding.dtype, scales, zeros, encoding.axis, encoding.block_size))


def inverse_factor(gram: Array, damping: float) -> Array:
    """The upper Cholesky factor of the inverse of a damped Gram matrix: row ``i`` says how an error of channel ``i`` is
    taken back by those after it.

    The matrix is scaled to a diagonal of ones meanwhile, as channels may differ by many orders of magnitude; channels
    that were never fed get a one, so they neither give nor take. Damping grows until the matrix is positive definite.
    """
    diagonal = np.diagonal(gram).astype(np.float64).copy()
    is_fed = diagonal > 0
    mean = float(diagonal[is_fed].mean()) if is_fed.any() else 1.0
    diagonal[~is_fed] = mean
    amount = damping
    while True:
        damped = gram.astype(np.float64)
        np.fill_diagonal(damped, diagonal + amount * mean)
        size = np.sqrt(np.diagonal(damped))
        try:
            # with J the reversal of order: inverse = U^T U for upper U, from the lower factor of the reversed matrix
            lower = np.linalg.cholesky((damped / np.outer(size, size))[::-1, ::-1])
        except np.linalg.LinAlgError:
            amount = max(amount * 10, 1e-6)
            continue
        upper_of_matrix = lower[::-1, ::-1]  # upper R with matrix = R R^T, so that its inverse is R^-T R^-1
        return np.asarray(_inverse_upper(upper_of_matrix) / size[None, :])


def _inverse_upper(upper: Array) -> Array:
    """The inverse of an upper triangular matrix, by halves: nearly all of the work is products."""
    size = len(upper)
    if size <= 64:
        return np.asarray(np.triu(np.linalg.inv(upper)))
    half = size // 2
    first, last = _inverse_upper(upper[:half, :half]), _inverse_upper(upper[half:, half:])
    inverse = np.zeros_like(upper)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[:half, half:] = -first @ upper[:half, half:] @ last
    return inverse


def polished(weights: Array, gram: Array, rounded: Rounded, sweeps: int = SWEEPS) -> Rounded:
    """Integers moved to where each, the others as they are, has the least error; the error never grows.

    Args:
        weights, gram: as of `gptq`.
        rounded: where to begin; its scales stay.
        sweeps: times that all channels are gone through, unless one changes nothing.
    """
    weights = np.asarray(weights, np.float32)
    encoding = rounded.encoding
    scale = np.broadcast_to(expanded(encoding.scale, encoding, weights.shape), weights.shape).T
    zero = expanded(encoding.zero_point.astype(np.int32), encoding, weights.shape)
    zero = np.broadcast_to(zero, weights.shape).T.astype(np.float32)
    lowest, highest = limits(encoding.dtype)
    largest = max(float(np.diagonal(gram).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    matrix = (gram / largest).astype(np.float32)
    own = np.diagonal(matrix)
    steps = rounded.steps.T.astype(np.float32).copy()
    change = (steps - zero) * scale - weights.T  # (inputs, results)
    for _ in range(sweeps):
        moved = False
        for start in range(0, len(steps), _LAZY):
            block = slice(start, start + _LAZY)
            near = matrix[block, block]
            forces = matrix[block] @ change  # half the slope of the error
            for at in range(len(forces)):
                channel = start + at
                if own[channel] <= _LEAST_OWN:
                    continue
                wanted = steps[channel] - forces[at] / (own[channel] * scale[channel])
                better = np.clip(np.rint(wanted), lowest, highest)
                # rounding of float32 must not move what is as good where it is
                shift = np.where(np.abs(wanted - steps[channel]) > 0.5001, better - steps[channel], np.float32(0))
                if shift.any():
                    moved = True
                    steps[channel] += shift
                    shift *= scale[channel]
                    change[channel] += shift
                    forces[at:] += np.outer(near[at:, at], shift)
        if not moved:
            break
    return Rounded(steps.T.astype(np.int32), encoding)
