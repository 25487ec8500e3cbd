"""Observers: what range of a stream of numbers to quantize.

An observer sees arrays one after the other and keeps only what it needs of them: extremes, and counts in a histogram.
Observers of parts of the data can be merged; the result is that of one observer that saw everything, exactly.

Sources: "percentile" and "entropy" after Migacz, "8-bit inference with TensorRT" (GTC 2017), and the calibrators of
onnxruntime that follow it; "mse" after Banner et al., "Post training 4-bit quantization of convolutional networks for
rapid-deployment" (2019), with the histogram in place of a distribution that is assumed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError, UsageTypeError, shorten
from mace_core.quantization import clipping
from mace_core.quantization.grids import Grid
from mace_core.quantization.histogram import Histogram

ALGORITHMS = ("minmax", "percentile", "entropy", "mse")

BINS = 4096
"""Of the histogram of a tensor; half of them below zero."""

CHANNEL_BINS = 1024
"""Of the histogram of one of several channels."""

PERCENTILE = 99.999
"""Percent of the numbers that "percentile" keeps within the range; the default of TensorRT and onnxruntime."""


class Range(NamedTuple):
    """The numbers to represent.

    Attributes:
        low, high: ends of it, float64, () for a tensor or (C,) for channels.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


class Observer:
    """What the numbers of one value are like: extremes alone ("minmax").

    Attributes:
        name: of the value, for messages.
        axis: the channel axis; None for one range of the whole tensor.
        count: numbers seen, over all channels.
        batches: arrays seen.
    """

    algorithm = "minmax"

    def __init__(self, name: str, *, axis: int | None = None) -> None:
        self.name = name
        self.axis = axis
        self.count = 0
        self.batches = 0
        self._low: npt.NDArray[np.float64] | None = None
        self._high: npt.NDArray[np.float64] | None = None

    def update(self, array: npt.ArrayLike) -> None:
        """Take in the numbers of one array; an array without numbers says nothing.

        Raises:
            UsageTypeError: if it does not hold real numbers.
            UsageError: if one of them is NaN or infinite, or the channels are not as many as before.
        """
        rows = self._rows(array)
        self.batches += 1
        if not rows.size:
            return
        low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise self._not_finite(_numbers(np.asarray(array)))
        if self._low is None or self._high is None:
            self._low, self._high = low, high
        elif len(low) != len(self._low):
            raise UsageError(
                f"value '{shorten(self.name)}' has {len(low)} channels along axis {self.axis} in one sample and "
                f"{len(self._low)} in another; give data of one kind, or quantize it per tensor"
            )
        else:
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self.count += rows.size
        self._see(rows)

    def merge(self, other: Observer) -> None:
        """Take in all that another observer of the same kind has seen.

        Raises:
            UsageError: if it is of another kind.
        """
        if self._kind() != other._kind():
            raise UsageError(
                f"an observer ({self.algorithm}, axis {self.axis}) cannot take in another kind "
                f"({other.algorithm}, axis {other.axis}); make both alike"
            )
        self.batches += other.batches
        if other._low is None or other._high is None:
            return
        if self._low is None or self._high is None:
            self._low, self._high = other._low, other._high
        elif len(self._low) != len(other._low):
            raise UsageError(
                f"value '{shorten(self.name)}' has {len(self._low)} channels here and {len(other._low)} there"
            )
        else:
            self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)
        self.count += other.count
        self._merge_seen(other)

    def extremes(self) -> Range:
        """The smallest and largest number seen.

        Raises:
            UsageError: if none was seen.
        """
        if self._low is None or self._high is None:
            raise UsageError(
                f"value '{shorten(self.name)}' had no numbers in any sample; give calibration data that reaches it"
            )
        return self._shaped(self._low, self._high)

    def range(self) -> Range:
        """The range that the algorithm chooses; errors as of `extremes`."""
        return self.extremes()

    def _see(self, rows: npt.NDArray[np.float32]) -> None:
        """Take in finite numbers, (channels, any), of which there are some."""

    def _merge_seen(self, other: Observer) -> None:
        """Take in what the other's `_see` kept."""

    def _kind(self) -> tuple[object, ...]:
        return type(self), self.axis

    def _shaped(self, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]) -> Range:
        return Range(low.reshape(()), high.reshape(())) if self.axis is None else Range(low, high)

    def _rows(self, array: npt.ArrayLike) -> npt.NDArray[np.float32]:
        found = np.asarray(array)
        if found.dtype.kind in "OSUcmM":
            raise UsageTypeError(f"value '{shorten(self.name)}' holds {found.dtype}, which cannot be quantized")
        numbers = _numbers(found)
        if self.axis is None:
            return numbers.reshape(1, -1)
        if not -numbers.ndim <= self.axis < numbers.ndim:
            raise UsageError(
                f"value '{shorten(self.name)}' of shape {list(numbers.shape)} has no channel axis {self.axis}"
            )
        channels = np.moveaxis(numbers, self.axis, 0)
        return channels.reshape(len(channels), -1)

    def _not_finite(self, numbers: npt.NDArray[np.float32]) -> UsageError:
        wrong = ~np.isfinite(numbers)
        nan = int(np.count_nonzero(np.isnan(numbers)))
        infinite = int(np.count_nonzero(wrong)) - nan
        first = [int(place) for place in np.unravel_index(int(wrong.argmax()), numbers.shape)]
        what = " and ".join(
            words for words, number in ((f"{nan} NaN", nan), (f"{infinite} infinite numbers", infinite)) if number
        )
        return UsageError(
            f"value '{shorten(self.name)}' holds {what} in calibration, the first at {first}; "
            "mend the data, or exclude the node that computes it"
        )


def _numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # a number beyond float32 counts as infinite, as it would in the model
        return np.asarray(array, np.float32)


class HistogramObserver(Observer):
    """Extremes and a histogram: the base of the algorithms that may clip.

    Attributes:
        grid: the integers that the value is to become.
        histogram: None before the first number.
    """

    def __init__(self, name: str, grid: Grid, *, axis: int | None = None, bins: int | None = None) -> None:
        super().__init__(name, axis=axis)
        self.grid = grid
        self.bins = bins or (BINS if axis is None else CHANNEL_BINS)
        if self.bins < 4 or self.bins & (self.bins - 1):
            raise UsageError(f"A histogram has a power of two of bins, at least 4; {self.bins} is none")
        self.histogram: Histogram | None = None

    def range(self) -> Range:
        low, high = (np.atleast_1d(end) for end in self.extremes())
        assert self.histogram is not None
        chosen = [self._choose(self.histogram, at, float(low[at]), float(high[at])) for at in range(len(low))]
        return self._shaped(np.array([pair[0] for pair in chosen]), np.array([pair[1] for pair in chosen]))

    def _choose(self, histogram: Histogram, channel: int, low: float, high: float) -> tuple[float, float]:
        """The range for one channel, whose numbers lie between ``low`` and ``high``."""
        return low, high

    def _see(self, rows: npt.NDArray[np.float32]) -> None:
        if self.histogram is None:
            self.histogram = Histogram(len(rows), self.bins)
        self.histogram.add(rows)

    def _merge_seen(self, other: Observer) -> None:
        assert isinstance(other, HistogramObserver)
        if other.histogram is not None:
            if self.histogram is None:
                self.histogram = Histogram(len(other.histogram.counts), self.bins)
            self.histogram.merge(other.histogram)

    def _kind(self) -> tuple[object, ...]:
        return type(self), self.axis, self.grid, self.bins


class MinMaxHistogramObserver(HistogramObserver):
    """The whole range, with a histogram for the report."""


class PercentileObserver(HistogramObserver):
    """The range that holds ``percentile`` percent of the numbers; what is left out is left out evenly at both ends."""

    algorithm = "percentile"

    def __init__(
        self,
        name: str,
        grid: Grid,
        *,
        axis: int | None = None,
        bins: int | None = None,
        percentile: float = PERCENTILE,
    ) -> None:
        super().__init__(name, grid, axis=axis, bins=bins)
        if not 50.0 < percentile <= 100.0:
            raise UsageError(f"A percentile to keep is more than 50 and at most 100; {percentile:g} is not")
        self.percentile = percentile

    def _choose(self, histogram: Histogram, channel: int, low: float, high: float) -> tuple[float, float]:
        return clipping.percentile_range(
            histogram.counts[channel], histogram.edges(channel), low, high, self.percentile
        )

    def _kind(self) -> tuple[object, ...]:
        return *super()._kind(), self.percentile


class EntropyObserver(HistogramObserver):
    """The range that loses the least information (Kullback-Leibler divergence)."""

    algorithm = "entropy"

    def _choose(self, histogram: Histogram, channel: int, low: float, high: float) -> tuple[float, float]:
        zeros = int(histogram.zeros[channel])
        return clipping.entropy_range(histogram.counts[channel], histogram.edges(channel), zeros, low, high, self.grid)


class MseObserver(HistogramObserver):
    """The range with the smallest mean squared error."""

    algorithm = "mse"

    def _choose(self, histogram: Histogram, channel: int, low: float, high: float) -> tuple[float, float]:
        zeros = int(histogram.zeros[channel])
        return clipping.mse_range(histogram.counts[channel], histogram.edges(channel), zeros, low, high, self.grid)


def make_observer(
    algorithm: str,
    name: str,
    grid: Grid,
    *,
    axis: int | None = None,
    bins: int | None = None,
    percentile: float = PERCENTILE,
) -> HistogramObserver:
    """The observer of an algorithm, one of `ALGORITHMS`.

    Args:
        name: of the value that it will see, for messages.
        grid: the integers that the value is to become.
        axis: of channels that get a range each; None for one range.
        bins: of its histogram, a power of two; None for as many as are usual.
        percentile: of the algorithm "percentile": percent of the numbers to keep.

    Raises:
        UsageError: for an algorithm or a number that is none.
    """
    match algorithm:
        case "minmax":
            return MinMaxHistogramObserver(name, grid, axis=axis, bins=bins)
        case "percentile":
            return PercentileObserver(name, grid, axis=axis, bins=bins, percentile=percentile)
        case "entropy":
            return EntropyObserver(name, grid, axis=axis, bins=bins)
        case "mse":
            return MseObserver(name, grid, axis=axis, bins=bins)
    raise UsageError(f"there is no calibration algorithm '{algorithm}'; choose one of {', '.join(ALGORITHMS)}")
