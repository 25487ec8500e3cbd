"""Whether two engines computed the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.compare.engines import Array


def load_outputs(path: Path) -> list[Array]:
    """What a measuring process stored."""
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


def largest_difference(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest difference of any element as a share of the range of its output; infinite if they do not compare.

    Dimensions of 1 do not matter: some engines have no batch dimension.  An output of one element is compared with its
    own size.
    """
    if len(found) != len(expected):
        return float("inf")
    return max(map(_difference, found, expected))


def _difference(found: Array, expected: Array) -> float:
    mine, theirs = np.squeeze(found).astype(np.float64), np.squeeze(expected).astype(np.float64)
    if mine.shape != theirs.shape:
        return float("inf")
    span = float(np.ptp(theirs)) if theirs.size > 1 else 0.0
    span = span or float(np.abs(theirs).max()) or 1.0
    difference = float(np.abs(mine - theirs).max()) / span
    return difference if np.isfinite(difference) else float("inf")
