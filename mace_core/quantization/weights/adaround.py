"""Rounding up or down as is learned from data (AdaRound).

Source: Nagel et al., "Up or down? Adaptive rounding for post-training quantization" (2020). Each weight gets a variable
that a rectified sigmoid turns into a part of a step, from 0 (down) to 1 (up). Adam moves the variables to where a
layer's results change least; a regularizer, weak at first, drives the parts to one of the two ends. The error is taken
from the Gram matrix of the inputs, so a step costs one product of matrices however many samples there were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.quantization.encodings import expanded, limits, quantize_steps
from mace_core.quantization.grids import Grid
from mace_core.quantization.weights.gram import check_gram
from mace_core.quantization.weights.nearest import Rounded, searched_encoding
from mace_core.tensor import QuantEncoding

Array: TypeAlias = npt.NDArray[Any]
Tell: TypeAlias = Callable[[int, int], object]
"""Hears how many of how many steps are done."""

STEPS = 500
"""Of Adam; twice as many gain less than a tenth of a decibel."""

RATE = 0.02
"""Of Adam."""

REGULARIZATION = 1.0
"""Weight of the regularizer beside an error that is scaled so that a whole step of a mean input counts 1."""

WARM_UP = 0.2
"""Part of the steps without regularizer."""

SHARPNESS = (20.0, 2.0)
"""Exponent of the regularizer at the end of the warm-up, and at the end."""

_STRETCH = 1.1, -0.1
"""Ends of the sigmoid before it is rectified: so it reaches 0 and 1 at finite variables."""

_AT_ONCE = 1 << 20
"""Weights that are learned together; results do not depend on each other."""


def adaround(
    weights: Array,
    gram: Array,
    grid: Grid,
    *,
    block_size: int = 0,
    encoding: QuantEncoding | None = None,
    steps: int = STEPS,
    tell: Tell | None = None,
) -> Rounded:
    """Weights rounded for the least squared error of the results on calibration data, by `adaround_groups`.

    Args:
        weights: (results, inputs).
        gram: (inputs, inputs): see `Gram`.
        block_size, encoding: as of `gptq`.
        steps: see `STEPS`.
        tell: is told of progress.

    Returns:
        Integers in the shape of the weights, and their encoding: along axis 1 in blocks, along axis 0, or as given.

    Raises:
        UsageError: if a weight is not finite, or the matrix does not fit the weights.
    """
    given = None if encoding is None else [encoding]
    return adaround_groups(
        np.asarray(weights)[None],
        np.asarray(gram)[None],
        grid,
        block_size=block_size,
        encodings=given,
        steps=steps,
        tell=tell,
    )[0]


def adaround_groups(
    weights: Array,
    grams: Array,
    grid: Grid,
    *,
    block_size: int = 0,
    encodings: list[QuantEncoding] | None = None,
    steps: int = STEPS,
    tell: Tell | None = None,
) -> list[Rounded]:
    """The weights of several groups (of a convolution) of one shape, learned together; arguments as of `adaround`.

    Every weight goes up or down, never farther: where data say nothing of an input, its weights stay as good as they
    were. No result is worse on the calibration data than rounding to the nearest: where it would be, it gets that.

    Args:
        weights: (groups, results, inputs).
        grams: (groups, inputs, inputs).
        encodings: one for each group.
    """
    weights = np.asarray(weights, np.float32)
    for matrix, gram in zip(weights, grams, strict=True):
        check_gram(gram, matrix)
    if encodings is None:
        axis = 1 if block_size else 0
        encodings = [
            searched_encoding(matrix, grid, axis=axis, block_size=block_size, importance=_importance(gram))
            for matrix, gram in zip(weights, grams, strict=True)
        ]
    nearest = [
        Rounded(quantize_steps(matrix, encoding), encoding) for matrix, encoding in zip(weights, encodings, strict=True)
    ]
    shape = weights.shape[1:]
    scale = np.stack([np.broadcast_to(expanded(one.scale, one, shape), shape) for one in encodings])
    zeros = (expanded(one.zero_point.astype(np.int32), one, shape) for one in encodings)
    zero = np.stack([np.broadcast_to(each, shape) for each in zeros])
    learned = np.empty(weights.shape, np.int32)
    turns = _turns(weights.shape)
    for number, (groups, results) in enumerate(turns):
        part = groups, results
        learned[part] = _learned(
            weights[part] / scale[part],
            zero[part],
            scale[part],
            grams[groups],
            limits(grid.dtype),
            steps,
            None if tell is None else _within(tell, number * steps, len(turns) * steps),
        )
    return [
        _better(matrix, gram, first, Rounded(integers, first.encoding))
        for matrix, gram, first, integers in zip(weights, grams, nearest, learned, strict=True)
    ]


def _better(weights: Array, gram: Array, nearest: Rounded, learned: Rounded) -> Rounded:
    """For each result what has the smaller error; of equals the nearest."""
    before, after = (
        np.einsum("ij,ij->i", change @ gram, change)
        for change in (one.decoded().astype(np.float64) - weights for one in (nearest, learned))
    )
    return Rounded(np.where((after < before)[:, None], learned.steps, nearest.steps), nearest.encoding)


def _learned(
    wanted: Array, zero: Array, scale: Array, grams: Array, ends: tuple[int, int], steps: int, tell: Tell | None
) -> Array:
    """Integers, (groups, results, inputs), for weights ``wanted`` in steps.

    Adam is written out in place: nothing is allocated in the loop but the product.
    """
    lowest, highest = (np.float32(end) - zero for end in ends)
    down = np.clip(np.floor(wanted), lowest, highest - 1).astype(np.float32)
    rest = (wanted - down).astype(np.float32)
    size = scale / scale.mean(axis=2, keepdims=True)  # 1 but in blocks
    diagonal = np.einsum("gii->gi", grams)
    mean = np.maximum(diagonal.mean(axis=1), np.finfo(np.float64).tiny)[:, None, None]
    matrices = (grams / mean).astype(np.float32)
    high, low = _STRETCH
    span = np.float32(high - low)
    start = (np.clip(rest, 0.01, 0.99) - low) / span
    variable = np.log(start / (1 - start)).astype(np.float32)
    first, second = np.zeros_like(variable), np.zeros_like(variable)
    warm = int(steps * WARM_UP)
    for step in range(steps):
        sigmoid = 1 / (1 + np.exp(-variable))
        stretched = sigmoid * span + np.float32(low)
        part = np.clip(stretched, 0, 1)
        slope = np.matmul((part - rest) * size, matrices)
        slope *= 2 * size
        if step >= warm:
            begin, end = SHARPNESS
            sharpness = end + (begin - end) * 0.5 * (1 + np.cos(np.pi * (step - warm) / max(steps - warm, 1)))
            away = 2 * part - 1
            slope -= (
                np.float32(2 * REGULARIZATION * sharpness) * np.sign(away) * np.abs(away) ** np.float32(sharpness - 1)
            )
        slope *= span * sigmoid * (1 - sigmoid)
        slope[(stretched <= 0) | (stretched >= 1)] = 0
        first += np.float32(0.1) * (slope - first)
        second += np.float32(0.001) * (slope * slope - second)
        rate = RATE * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        variable -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))
        if tell is not None:
            tell(step + 1, steps)
    up = 1 / (1 + np.exp(-variable)) * span + low >= 0.5
    return (down + up + zero).astype(np.int32)


def _importance(gram: Array) -> Array:
    diagonal = np.maximum(np.diagonal(gram), 0.0)
    return np.asarray(diagonal / max(diagonal.max(initial=0.0), np.finfo(np.float64).tiny))[None]


def _turns(shape: tuple[int, ...]) -> list[tuple[slice, slice]]:
    """Parts of (groups, results) that are learned one after the other."""
    groups, results, inputs = shape
    rows = max(1, _AT_ONCE // max(inputs, 1))
    if results >= rows:
        return [
            (slice(group, group + 1), slice(at, at + rows)) for group in range(groups) for at in range(0, results, rows)
        ]
    many = max(1, rows // results)
    return [(slice(at, at + many), slice(None)) for at in range(0, groups, many)]


def _within(tell: Tell, before: int, total: int) -> Tell:
    return lambda done, _: tell(before + done, total)
