"""Steps of a sum that meet no weight but zero: they are found when weights are packed, and left out.

A tile multiplies a step's weights for all its columns at once, so a step may be left out where the weights of all these
columns are zero: N:M sparsity whose pattern the columns of a tile share, channels that were pruned as a whole.  The
weights of the steps that are kept are packed without gaps, with a table beside them that says which steps they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_cpu.shared.tiles.arguments import MOST_KEPT

SAMPLES = 2048
FEWEST_ZEROS = 0.2
"""Weights with a smaller share of zeros are not looked at closer."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class KeptSteps:
    """Which steps of each run are kept; a run is a stretch of steps that has a loop of its own.

    Attributes:
        order: (..., kept), int32: the steps kept of each run, the same number of each.  Where fewer have weights,
            steps without any fill up.
        run: steps of a run.
    """

    order: npt.NDArray[np.int32]
    run: int

    @classmethod
    def of(cls, used: Bools) -> KeptSteps:
        """Of runs (..., steps) of which ``used`` says which steps have weights."""
        count = max(int(used.sum(axis=-1).max(initial=0)), 1)
        order = np.argsort(~used, axis=-1, kind="stable")[..., :count]
        return cls(order.astype(np.int32), used.shape[-1])

    @property
    def count(self) -> int:
        """How many steps of a run are kept."""
        return int(self.order.shape[-1])

    @property
    def share(self) -> float:
        """How much of a run that is."""
        return self.count / self.run

    @property
    def is_worth_it(self) -> bool:
        """Whether so few steps are kept that looking them up pays."""
        return self.share <= MOST_KEPT

    def of_rows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is kept of packed weights (..., steps, columns)."""
        return np.take_along_axis(rows, self.order[..., None], axis=-2)


def has_many_zeros(weights: npt.NDArray[Any], zero: int = 0) -> bool:
    """Whether it is worth looking for steps without weights, going by a sample spread over all of them.

    Args:
        zero: what stands for zero.
    """
    flat = weights.reshape(-1)
    if not flat.size:
        return False
    # neighbors are inputs of one output channel: looked at in turn, patterns of any period are met
    stride = max(flat.size // SAMPLES, 1) | 1
    return bool(np.count_nonzero(flat[::stride] == zero) >= FEWEST_ZEROS * flat[::stride].size)


def used_by_tiles(weights: npt.NDArray[Any], columns: int) -> Bools:
    """(O, ...) as (ceil(O / columns), ...): whether any of a tile's columns has a weight other than zero."""
    return np.logical_or.reduceat(weights != 0, np.arange(0, weights.shape[0], columns), axis=0)


def kept_note(kept: KeptSteps | None) -> str:
    """What explanations say of a step that multiplies only what is kept."""
    return "" if kept is None else f"sparse, {kept.share:.0%} of the products"
