"""Observers of a stream of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mace_core.errors import UsageError, UsageTypeError
from mace_core.quantization.encodings import encoding_for_range, fake_quantize
from mace_core.quantization.grids import Grid
from mace_core.quantization.ranges import ALGORITHMS, HistogramObserver, Observer, make_observer
from mace_core.tensor import DType

Array = npt.NDArray[Any]

INT8 = Grid(DType.INT8, True)
UINT8 = Grid(DType.UINT8, False)
BATCHES = st.lists(
    arrays.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.just(3)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    ),
    min_size=1,
    max_size=6,
)


def observed(algorithm: str, batches: list[Array], axis: int | None = None, grid: Grid = UINT8) -> HistogramObserver:
    observer = make_observer(algorithm, "x", grid, axis=axis)
    for batch in batches:
        observer.update(batch)
    return observer


@given(batches=BATCHES, split=st.integers(0, 6), algorithm=st.sampled_from(ALGORITHMS), axis=st.sampled_from([None, 1]))
def test_merged_observers_are_one_that_saw_everything(
    batches: list[Array], split: int, algorithm: str, axis: int | None
) -> None:
    whole = observed(algorithm, [np.concatenate(batches)], axis)
    parts = observed(algorithm, batches[split:], axis)
    parts.merge(observed(algorithm, batches[:split], axis))
    if not whole.count:
        with pytest.raises(UsageError, match="no numbers"):
            parts.range()
        return
    assert whole.histogram is not None
    assert parts.histogram is not None
    np.testing.assert_array_equal(parts.histogram.counts, whole.histogram.counts)
    np.testing.assert_array_equal(parts.histogram.exponents, whole.histogram.exponents)
    np.testing.assert_array_equal(parts.histogram.zeros, whole.histogram.zeros)
    np.testing.assert_array_equal(parts.range(), whole.range())


@given(batches=BATCHES, algorithm=st.sampled_from(ALGORITHMS))
def test_a_range_lies_within_what_was_seen(batches: list[Array], algorithm: str) -> None:
    numbers = np.concatenate(batches)
    if not numbers.size:
        return
    low, high = observed(algorithm, batches).range()
    assert numbers.min() <= low <= high <= numbers.max()


@given(numbers=arrays.arrays(np.float32, 40, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_every_number_is_counted_in_its_bin(numbers: Array) -> None:
    histogram = observed("minmax", [numbers[:7], numbers[7:]]).histogram
    assert histogram is not None
    expected, _ = np.histogram(numbers.astype(np.float64), histogram.edges(0))
    np.testing.assert_array_equal(histogram.counts[0], expected)


def test_minmax_is_the_whole_range_also_without_a_histogram() -> None:
    observer = Observer("x")
    for batch in ([3.0, -1.0], [], [7.5]):
        observer.update(batch)
    assert tuple(observer.range()) == (-1.0, 7.5)
    assert (observer.count, observer.batches) == (3, 3)


def test_percentile_leaves_out_what_is_rare() -> None:
    numbers = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    observer = make_observer("percentile", "x", INT8, percentile=99.0)
    observer.update(np.append(numbers, [100, -80]).astype(np.float32))
    expected = np.percentile(numbers, [0.5, 99.5])
    np.testing.assert_allclose(observer.range(), expected, atol=0.06)  # a bin is 1/16 wide


@pytest.mark.parametrize("grid", [INT8, UINT8, Grid(DType.INT4, True), Grid(DType.UINT4, False)], ids=str)
@pytest.mark.parametrize("kind", ["normal", "relu", "laplace"])
def test_mse_is_no_worse_than_any_other_algorithm(grid: Grid, kind: str) -> None:
    generator = np.random.default_rng(2)
    numbers = (generator.laplace if kind == "laplace" else generator.normal)(size=50_000).astype(np.float32)
    if kind == "relu":
        numbers = np.maximum(numbers, 0)
    numbers[:3] = 25, 18, 9

    def error(algorithm: str) -> float:
        encoding = encoding_for_range(*observed(algorithm, [numbers], grid=grid).range(), grid)
        return float(np.square(fake_quantize(numbers, encoding) - numbers).mean())

    errors = {algorithm: error(algorithm) for algorithm in ALGORITHMS}
    assert errors["mse"] <= 1.02 * min(errors.values())  # bins are not points
    assert errors["mse"] < (0.5 if grid.dtype.bits == 4 else 0.98) * errors["minmax"]


def test_mse_of_a_range_is_close_to_the_best_that_trying_all_finds() -> None:
    numbers = np.random.default_rng(3).gamma(0.7, size=20_000).astype(np.float32)
    grid = Grid(DType.UINT4, False)

    def error(high: float) -> float:
        return float(np.square(fake_quantize(numbers, encoding_for_range(0.0, high, grid)) - numbers).mean())

    best = min(error(float(high)) for high in np.linspace(0.5, numbers.max(), 400))
    assert error(float(observed("mse", [numbers], grid=grid).range().high)) <= 1.02 * best


def test_entropy_cuts_outliers_and_keeps_the_rest() -> None:
    numbers = np.abs(np.random.default_rng(4).normal(size=200_000)).astype(np.float32)
    low, high = observed("entropy", [np.append(numbers, np.float32(60.0))]).range()
    assert 0.0 <= low < 1e-3
    assert 2.0 < high < 8.0
    even = np.linspace(0, 1, 100_000, dtype=np.float32)
    assert observed("entropy", [even]).range().high > 0.97


def test_entropy_is_not_swayed_by_zeros() -> None:
    numbers = np.random.default_rng(5).gamma(2.0, size=50_000).astype(np.float32)
    alone = observed("entropy", [numbers]).range()
    among_zeros = observed("entropy", [numbers, np.zeros(500_000, np.float32)]).range()
    assert alone.high == among_zeros.high


def test_channels_have_ranges_of_their_own() -> None:
    samples = [np.random.default_rng(seed).normal(size=(2, 3, 4, 4)).astype(np.float32) for seed in range(3)]
    scaled = [sample * np.array([1, 100, 0.01], np.float32).reshape(3, 1, 1) for sample in samples]
    for algorithm in ALGORITHMS:
        channels = observed(algorithm, scaled, axis=1).range()
        assert channels.low.shape == (3,)
        for channel in range(3):
            alone = make_observer(algorithm, "x", UINT8, bins=1024)
            for sample in scaled:
                alone.update(sample[:, channel])
            np.testing.assert_array_equal(alone.range(), (channels.low[channel], channels.high[channel]))


@pytest.mark.parametrize("dtype", ["float16", "float64", "int64", "bool", "bfloat16"])
def test_other_element_types_are_read_as_numbers(dtype: str) -> None:
    array = np.array([0, 1, 1], np.float32).astype(DType.from_label(dtype).numpy if dtype == "bfloat16" else dtype)
    assert tuple(observed("minmax", [array]).range()) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[1.0, np.nan], [np.nan, np.inf]], r"'encoder/x' holds 2 NaN and 1 infinite numbers .* at \[0, 1\]"),
        ([[1.0, -np.inf]], r"'encoder/x' holds 1 infinite numbers"),
        (np.array([1e200]), "infinite"),
    ],
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_numbers_that_are_not_finite_are_refused(algorithm: str, bad: Any, message: str) -> None:
    observer = make_observer(algorithm, "encoder/x", INT8)
    observer.update([1.0, 2.0])
    with pytest.raises(UsageError, match=message):
        observer.update(bad)
    assert tuple(observer.extremes()) == (1.0, 2.0)


def test_what_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no calibration algorithm 'best'; choose one of minmax"):
        make_observer("best", "x", INT8)
    with pytest.raises(UsageError, match="percentile"):
        make_observer("percentile", "x", INT8, percentile=101)
    with pytest.raises(UsageError, match="power of two"):
        make_observer("mse", "x", INT8, bins=100)
    with pytest.raises(UsageTypeError, match="cannot be quantized"):
        make_observer("minmax", "x", INT8).update(np.array(["a"]))
    with pytest.raises(UsageError, match="no channel axis 2"):
        make_observer("minmax", "x", INT8, axis=2).update(np.ones((2, 2)))
    observer = observed("minmax", [np.ones((2, 3), np.float32)], axis=1)
    with pytest.raises(UsageError, match="4 channels along axis 1 in one sample and 3 in another"):
        observer.update(np.ones((2, 4)))
    with pytest.raises(UsageError, match="another kind"):
        observer.merge(observed("mse", [np.ones((2, 3), np.float32)], axis=1))
