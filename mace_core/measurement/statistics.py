"""What several measurements of one thing say, and what they do not: medians with the interval they lie in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and the interval that holds the true one with 95 % confidence (where there are measurements enough)."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half the width of the interval as a part of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0

    def as_data(self) -> dict[str, float]:
        """Its numbers by name."""
        return {"median": self.median, "low": self.low, "high": self.high, "count": self.count}


def estimate(values: Sequence[float]) -> Estimate:
    """The median of the values and its interval, whatever they are distributed like.

    The interval is made of order statistics: how many of n values lie below the true median is binomial with one half
    (Conover, Practical Nonparametric Statistics, chapter 3.2).  With fewer than six values none reaches 95 %; then it
    is all of their range.
    """
    ordered = sorted(values)
    count = len(ordered)
    cut = 0
    below = 0.0
    while cut < count // 2:
        below += math.comb(count, cut) / 2**count
        if below > (1 - CONFIDENCE) / 2:
            break
        cut += 1
    first = max(0, cut - 1)
    return Estimate(statistics.median(ordered), ordered[first], ordered[count - 1 - first], count)


def ratios(values: Sequence[float], to: Sequence[float]) -> Estimate:
    """How many times ``to`` the values are, pair by pair: what disturbed both of a pair cancels out."""
    return estimate([value / other for value, other in zip(values, to, strict=True)])


def is_more(ratio: Estimate) -> bool:
    """Whether a ratio is above 1 for more reasons than noise."""
    return ratio.low > 1.0


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The least of the ordered values that ``fraction`` of them do not exceed (the nearest-rank method)."""
    return ordered[max(0, math.ceil(round(fraction * len(ordered), 9)) - 1)]
