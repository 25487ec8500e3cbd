"""Where in one arena each short-lived buffer goes: buffers that are never alive together may share bytes.

The greedy-by-size strategy of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference"
(arXiv 2001.03288): largest first, each into the smallest gap that fits between buffers alive at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.provider.memory import ALIGNMENT_BYTES
from mace_core.symbolic import hint, is_symbolic


class Lifetime(NamedTuple):
    """A buffer of ``nbytes`` that is alive from step ``first`` to step ``last``, both included."""

    first: int
    last: int
    nbytes: int


class ArenaPlan(NamedTuple):
    """Byte offsets in the order of the lifetimes given.

    Attributes:
        offsets: multiples of the alignment.
        total_bytes: the size of the arena.
        lower_bound_bytes: what is alive at the fullest step; no plan can be smaller.
    """

    offsets: tuple[int, ...]
    total_bytes: int
    lower_bound_bytes: int


def plan_arena(
    lifetimes: Sequence[Lifetime], *, alignment: int = ALIGNMENT_BYTES, together: npt.NDArray[np.bool_] | None = None
) -> ArenaPlan:
    """Place every buffer so that those alive at a common step never overlap.

    Sizes are rounded up to ``alignment``; buffers of size zero get offset 0.

    Args:
        together: for each two buffers whether they may be alive at the same time, of shape [count, count], where steps
            do not run one after the other and the numbers of first and last step do not tell.  Those alive at a common
            step have to be among them.

    Raises:
        ValueError: for a negative size, or a lifetime that ends before it begins.
    """
    if any(is_symbolic(lifetime.nbytes) for lifetime in lifetimes):
        return _plan_symbolic_arena(lifetimes, alignment, together)
    for lifetime in lifetimes:
        if lifetime.nbytes < 0 or lifetime.last < lifetime.first:
            raise ValueError(f"{lifetime} is not a lifetime")
    sizes = [-(-lifetime.nbytes // alignment) * alignment for lifetime in lifetimes]
    offsets = [0] * len(sizes)
    order = sorted((i for i, size in enumerate(sizes) if size), key=lambda i: (-sizes[i], lifetimes[i].first))
    count = len(order)
    # The buffers placed so far, in the order of their offsets.
    begin, end = np.zeros(count, np.int64), np.zeros(count, np.int64)
    first, last = np.zeros(count, np.int64), np.zeros(count, np.int64)
    numbers = np.zeros(count, np.int64)
    total = 0
    for placed, index in enumerate(order):
        lifetime, size = lifetimes[index], sizes[index]
        if together is None:
            meets = (first[:placed] <= lifetime.last) & (last[:placed] >= lifetime.first)
        else:
            meets = together[index, numbers[:placed]]
        offset = _smallest_gap(begin[:placed][meets], end[:placed][meets], size)
        offsets[index] = offset
        total = max(total, offset + size)
        at = int(np.searchsorted(begin[:placed], offset))
        columns = ((begin, offset), (end, offset + size), (first, lifetime.first), (last, lifetime.last))
        for column, value in (*columns, (numbers, index)):
            column[at + 1 : placed + 1] = column[at:placed]
            column[at] = value
    return ArenaPlan(tuple(offsets), total, _lower_bound(lifetimes, sizes))


def _plan_symbolic_arena(
    lifetimes: Sequence[Lifetime], alignment: int, together: npt.NDArray[np.bool_] | None
) -> ArenaPlan:
    """Offsets as expressions that keep buffers apart for any sizes.

    The plan for the sizes at hand says of each two buffers that are alive together which one is below the other.  That
    order is kept: each lies above the ends of those below it, wherever these come to lie.  For the sizes at hand these
    are the offsets of that plan, or less.
    """
    from mace_core.symbolic import maximum

    hinted = [Lifetime(lt.first, lt.last, hint(lt.nbytes)) for lt in lifetimes]
    plan = plan_arena(hinted, alignment=alignment, together=together)
    sizes = [-(-lifetime.nbytes // alignment) * alignment for lifetime in lifetimes]
    order = sorted(range(len(lifetimes)), key=lambda i: (plan.offsets[i], hint(sizes[i]), i))
    offsets: list[int] = [0] * len(lifetimes)
    below: list[set[int]] = [set() for _ in lifetimes]  # with all that is below these
    tops: set[int] = set()
    for place, index in enumerate(order):
        meeting = [
            other
            for other in order[:place]
            if (
                lifetimes[other].first <= lifetimes[index].last and lifetimes[index].first <= lifetimes[other].last
                if together is None
                else together[index, other]
            )
        ]
        # who is below another one of these ends below that one's end
        direct = [other for other in meeting if not any(other in below[higher] for higher in meeting)]
        for other in direct:
            offsets[index] = maximum(offsets[index], offsets[other] + sizes[other])
        below[index] = set(meeting).union(*(below[other] for other in direct))
        tops = (tops - below[index]) | {index}
    total = 0
    for index in tops:
        total = maximum(total, offsets[index] + sizes[index])
    return ArenaPlan(tuple(offsets), total, plan.lower_bound_bytes)


def _smallest_gap(begin: np.ndarray, end: np.ndarray, size: int) -> int:
    """The offset of the smallest gap of at least ``size`` between occupied ranges, or behind them all."""
    if not begin.size:
        return 0
    filled = np.maximum.accumulate(end)
    gap_starts = np.concatenate(([0], filled[:-1]))
    gaps = begin - gap_starts
    fitting = np.flatnonzero(gaps >= size)
    if not fitting.size:
        return int(filled[-1])
    return int(gap_starts[fitting[np.argmin(gaps[fitting])]])


def _lower_bound(lifetimes: Sequence[Lifetime], sizes: Sequence[int]) -> int:
    """The largest sum of sizes alive at one step."""
    changes: dict[int, int] = {}
    for lifetime, size in zip(lifetimes, sizes, strict=True):
        changes[lifetime.first] = changes.get(lifetime.first, 0) + size
        changes[lifetime.last + 1] = changes.get(lifetime.last + 1, 0) - size
    alive = fullest = 0
    for step in sorted(changes):
        alive += changes[step]
        fullest = max(fullest, alive)
    return fullest
