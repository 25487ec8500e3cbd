"""Histograms of a stream of numbers whose range is not known before.

The bins of a channel are ``2**exponent`` wide and begin at multiples of that; the exponent is the smallest that takes
in the largest magnitude seen. When a larger one comes, pairs of bins become one. So a histogram depends on the numbers
alone, not on how they were batched or merged: counts are exact at every moment.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

_LEAST_EXPONENT = -160
"""Of float32: every number, denormals too, is then far from the smallest bin."""

_AT_ONCE = 1 << 18
"""Numbers put into bins in one go; bounds the memory that this takes."""


class Histogram:
    """Counts of numbers by size, for one tensor or for each of several channels.

    Attributes:
        bins: how many; a power of two, half of them below zero.
        counts: (channels, bins) int64.
        exponents: (channels,): bins are ``2**exponent`` wide; bin ``bins // 2`` begins at zero.
        zeros: (channels,): numbers that are exactly zero; they are counted in ``counts`` too.
    """

    __slots__ = ("bins", "counts", "exponents", "zeros")

    def __init__(self, channels: int, bins: int) -> None:
        self.bins = bins
        self.counts: Array = np.zeros((channels, bins), np.int64)
        self.exponents: Array = np.full(channels, _LEAST_EXPONENT, np.int64)
        self.zeros: Array = np.zeros(channels, np.int64)

    def add(self, rows: Array) -> None:
        """Count numbers, (channels, any) float32, all finite."""
        self._reach(self._exponents_for(np.abs(rows).max(axis=1, initial=0.0)))
        half = self.bins // 2
        for channel, row in enumerate(rows):
            reciprocal = 2.0 ** -int(self.exponents[channel])
            for start in range(0, len(row), _AT_ONCE):
                scaled = row[start : start + _AT_ONCE].astype(np.float64) * reciprocal
                places = np.floor(scaled).astype(np.int64) + half
                self.counts[channel] += np.bincount(places, minlength=self.bins)
        self.zeros += np.count_nonzero(rows == 0, axis=1)

    def merge(self, other: Histogram) -> None:
        """Add the counts of a histogram of as many channels and bins."""
        self._reach(other.exponents)
        for channel in range(len(self.counts)):
            shift = int(self.exponents[channel] - other.exponents[channel])
            self.counts[channel] += _coarser(other.counts[channel], shift)
        self.zeros += other.zeros

    def edges(self, channel: int) -> Array:
        """(bins + 1,): where the bins of a channel begin and end."""
        half = self.bins // 2
        return np.ldexp(np.arange(-half, half + 1, dtype=np.float64), int(self.exponents[channel]))

    def _exponents_for(self, largest: Array) -> Array:
        """The smallest exponents for which each magnitude lies within the bins on both sides."""
        _, powers = np.frexp(largest.astype(np.float64))  # largest < 2**power
        wanted = powers.astype(np.int64) - (self.bins // 2).bit_length() + 1
        return np.where(largest > 0, np.maximum(wanted, _LEAST_EXPONENT), _LEAST_EXPONENT)

    def _reach(self, exponents: Array) -> None:
        for channel in np.flatnonzero(exponents > self.exponents):
            shift = int(exponents[channel] - self.exponents[channel])
            self.counts[channel] = _coarser(self.counts[channel], shift)
            self.exponents[channel] = exponents[channel]


def _coarser(counts: Array, shift: int) -> Array:
    """Counts in bins ``2**shift`` times as wide, as many of them."""
    if shift == 0 or not counts.any():
        return counts
    bins = len(counts)
    filled = np.flatnonzero(counts)
    places = ((filled - bins // 2) >> min(shift, 62)) + bins // 2
    return np.bincount(places, weights=counts[filled], minlength=bins).astype(np.int64)
