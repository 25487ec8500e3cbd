"""N:M patterns: which weights of a layer may stay.

A layer's weights are a matrix (outputs, taps, inputs): the output channels of a convolution, the taps of its kernel and
its input channels, or the columns, 1 and the rows of a matrix that is multiplied with.  Of each M inputs in a row, N
stay.  Which ones may differ from output to output (as NVIDIA's sparse tensor cores have it: Mishra et al.,
"Accelerating Sparse Deep Neural Networks", 2021), or be the same for a number of neighboring outputs and, if asked, for
all taps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

LARGEST_GROUP = 64


@dataclass(frozen=True, slots=True)
class Pattern:
    """Of each ``group`` inputs in a row, ``kept`` stay.

    Attributes:
        kept, group: N and M.
        shared: how many neighboring outputs have the same inputs.
        by_tap: each tap of a kernel has a pattern of its own; else all have one.
    """

    kept: int = 2
    group: int = 4
    shared: int = 32
    by_tap: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.kept < self.group <= LARGEST_GROUP:
            raise UsageError(
                f"the pattern {self.kept}:{self.group} keeps no weight or all, or its groups are too large; "
                f"give N:M with 0 < N < M <= {LARGEST_GROUP}, such as 2:4"
            )
        if self.shared < 1:
            raise UsageError(f"a pattern cannot be shared by {self.shared} outputs; give 1 or more")

    @classmethod
    def parse(cls, text: str, shared: int = 32, *, by_tap: bool = False) -> Pattern:
        """The pattern that is written "N:M".

        Raises:
            UsageError: if ``text`` is not such a pattern.
        """
        found = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text.strip())
        if found is None:
            raise UsageError(f"the pattern '{text}' is not of the form N:M; give for example 2:4")
        return cls(int(found[1]), int(found[2]), shared, by_tap)

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"


def choose_kept(scores: Floats, pattern: Pattern) -> Bools:
    """Which weights stay: those whose scores sum up highest over all that share a pattern.

    Args:
        scores: (outputs, taps, inputs), not negative: what each weight is worth.

    Returns:
        An array of that shape.  Inputs behind the last whole group all stay.
    """
    outputs, taps, inputs = scores.shape
    groups = inputs // pattern.group
    kept = np.ones(scores.shape, np.bool_)
    if not groups or not scores.size:
        return kept
    starts = np.arange(0, outputs, pattern.shared)
    sums = np.add.reduceat(scores[:, :, : groups * pattern.group].astype(np.float64), starts, axis=0)
    if not pattern.by_tap:
        sums = sums.sum(axis=1, keepdims=True)
    sums = sums.reshape(len(starts), -1, groups, pattern.group)
    order = np.argsort(-sums, axis=-1, kind="stable")[..., : pattern.kept]
    chosen = np.zeros(sums.shape, np.bool_)
    np.put_along_axis(chosen, order, True, axis=-1)
    flat = chosen.reshape(len(starts), -1, groups * pattern.group)
    spread = np.repeat(flat, np.diff(np.append(starts, outputs)), axis=0)
    kept[:, :, : groups * pattern.group] = np.broadcast_to(spread, (outputs, taps, groups * pattern.group))
    return kept


def has_pattern(weights: npt.NDArray[np.floating], pattern: Pattern) -> bool:
    """Whether weights (outputs, taps, inputs) keep to ``pattern``."""
    outputs, _, inputs = weights.shape
    groups = inputs // pattern.group
    if not weights.size:
        return True
    used: Bools = np.logical_or.reduceat(weights != 0, np.arange(0, outputs, pattern.shared), axis=0)
    if not pattern.by_tap:
        used = np.asarray(used.any(axis=1, keepdims=True))
    by_group = used[:, :, : groups * pattern.group].reshape(*used.shape[:2], groups, pattern.group)
    return bool((by_group.sum(axis=-1) <= pattern.kept).all())
