"""From arrays and observers to figures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.quantization.encodings import decoded_range
from mace_core.quantization.ranges import HistogramObserver
from mace_core.quantization.report.findings import ValueFinding
from mace_core.tensor import QuantEncoding

DRAWN_BINS = 64
"""Of a histogram in a report, at the most."""


class ErrorSums:
    """How far arrays are from those expected, over a stream of them.

    Attributes:
        elements: how many were compared.
    """

    __slots__ = ("_found", "_noise", "_product", "_signal", "elements")

    def __init__(self) -> None:
        self.elements = 0
        self._signal = self._noise = self._found = self._product = 0.0

    def update(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
        """Take in one pair of arrays of one shape."""
        x = np.asarray(found, np.float64).reshape(-1)
        y = np.asarray(expected, np.float64).reshape(-1)
        error = x - y
        self.elements += x.size
        self._signal += float(np.dot(y, y))
        self._noise += float(np.dot(error, error))
        self._found += float(np.dot(x, x))
        self._product += float(np.dot(x, y))

    @property
    def sqnr_db(self) -> float:
        """Signal to noise in decibels: inf where equal, -inf where noise stands against nothing."""
        if self._noise == 0.0:
            return math.inf
        if not math.isfinite(self._noise) or self._signal == 0.0:
            return -math.inf
        return 10.0 * math.log10(self._signal / self._noise)

    @property
    def cosine(self) -> float:
        """Of the angle between all that was found and all that was expected; 1 where both are zero."""
        if self._noise == 0.0:
            return 1.0
        size = math.sqrt(self._found) * math.sqrt(self._signal)
        return self._product / size if size > 0.0 and math.isfinite(size) else 0.0


def sqnr_db(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Signal to noise of one array, as `ErrorSums`."""
    sums = ErrorSums()
    sums.update(found, expected)
    return sums.sqnr_db


def value_finding(observer: HistogramObserver, encoding: QuantEncoding, node: str = "") -> ValueFinding:
    """What is said about a value that has one scale.

    Args:
        observer: what was seen of it; `name` is the value's.
        encoding: what it got.
        node: name of the node that computes it.

    Raises:
        UsageError: if nothing was seen.
    """
    seen_low, seen_high = (
        float(np.min(end)) if at == 0 else float(np.max(end)) for at, end in enumerate(observer.extremes())
    )
    low, high = (float(end) for end in decoded_range(encoding))
    edges, counts = _joined(observer)
    drawn_edges, drawn_counts = _coarse(edges, counts)
    return ValueFinding(
        name=observer.name,
        node=node,
        form=encoding.dtype.label,
        scale=float(encoding.scale),
        zero_point=int(encoding.zero_point),
        low=low,
        high=high,
        seen_low=seen_low,
        seen_high=seen_high,
        clipped=_clipped_share(edges, counts, (low, high), (seen_low, seen_high), float(encoding.scale)),
        edges=drawn_edges,
        counts=drawn_counts,
    )


def _joined(observer: HistogramObserver) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The histogram of all channels of an observer together."""
    histogram = observer.histogram
    if histogram is None:
        return np.zeros(1), np.zeros(0, np.int64)
    if len(histogram.counts) == 1:
        return histogram.edges(0), histogram.counts[0]
    joined = type(histogram)(1, histogram.bins)
    for channel in range(len(histogram.counts)):
        single = type(histogram)(1, histogram.bins)
        single.counts = histogram.counts[channel : channel + 1]
        single.exponents = histogram.exponents[channel : channel + 1]
        single.zeros = histogram.zeros[channel : channel + 1]
        joined.merge(single)
    return joined.edges(0), joined.counts[0]


def _clipped_share(
    edges: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    ends: tuple[float, float],
    seen: tuple[float, float],
    step: float,
) -> float:
    """Numbers farther than half a step outside, as a share; exactly 0 where the extremes are within."""
    low, high = ends[0] - step / 2, ends[1] + step / 2
    total = int(counts.sum())
    if not total or (seen[0] >= low and seen[1] <= high):
        return 0.0
    width = edges[1] - edges[0]
    above = np.clip((edges[1:] - high) / width, 0.0, 1.0) if seen[1] > high else 0.0
    below = np.clip((low - edges[:-1]) / width, 0.0, 1.0) if seen[0] < low else 0.0
    return float(max(np.sum(counts * (above + below)), 1.0) / total)


def _coarse(edges: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> tuple[list[float], list[int]]:
    """At most `DRAWN_BINS` bins from the smallest to the largest number."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return [], []
    first, last = int(filled[0]), int(filled[-1]) + 1
    per_bin = math.ceil((last - first) / DRAWN_BINS)
    starts = np.arange(first, last, per_bin)
    ends = [*starts, min(int(starts[-1]) + per_bin, len(counts))]
    return [float(edges[at]) for at in ends], np.add.reduceat(counts[first:last], starts - first).tolist()
