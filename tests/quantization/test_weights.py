"""Rounding of weights: scales that are searched, errors that are made up for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.errors import UsageError
from mace_core.quantization.encodings import limits
from mace_core.quantization.grids import Grid
from mace_core.quantization.weights.adaround import adaround, adaround_groups
from mace_core.quantization.weights.gptq import gptq, inverse_factor, polished
from mace_core.quantization.weights.gram import Gram, patches, squared_error
from mace_core.quantization.weights.nearest import Rounded, round_to_nearest
from mace_core.tensor import DType

Array = npt.NDArray[Any]

GRIDS = [Grid(dtype, is_symmetric) for dtype in (DType.INT4, DType.UINT4, DType.INT8) for is_symmetric in (True, False)]


def layer(seed: int, results: int, inputs: int, rows: int) -> tuple[Array, Array]:
    """Weights, and inputs that depend on each other and differ in size, as those of trained networks."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(rows, inputs)) @ (np.eye(inputs) + 0.3 * generator.normal(size=(inputs, inputs)))
    sizes = np.exp(generator.normal(size=inputs))
    return generator.normal(size=(results, inputs)).astype(np.float32), (mixed * sizes).astype(np.float32)


def gram_of(rows: Array) -> Array:
    gram = Gram("layer", 1, rows.shape[1])
    gram.update(rows)
    return np.asarray(gram.matrices[0])


def error(rounded: Rounded, weights: Array, rows: Array) -> float:
    return float(np.square(rows.astype(np.float64) @ (rounded.decoded() - weights).T).sum())


@given(
    seed=st.integers(0, 10**6),
    results=st.integers(1, 9),
    inputs=st.integers(1, 40),
    rows=st.integers(1, 60),
    grid=st.sampled_from(GRIDS),
    block_size=st.sampled_from([0, 4, 16, 32]),
    by_activation=st.booleans(),
    sweeps=st.integers(0, 2),
)
def test_making_up_for_errors_is_never_worse_than_rounding_to_the_nearest(
    seed: int, results: int, inputs: int, rows: int, grid: Grid, block_size: int, by_activation: bool, sweeps: int
) -> None:
    weights, x = layer(seed, results, inputs, rows)
    gram = gram_of(x)
    found = gptq(weights, gram, grid, block_size=block_size, by_activation=by_activation, sweeps=sweeps)
    importance = np.diagonal(gram)[None] / np.diagonal(gram).max()
    axis = 1 if block_size else 0
    nearest = round_to_nearest(weights, grid, axis=axis, block_size=block_size, importance=importance)
    assert error(found, weights, x) <= error(nearest, weights, x) * (1 + 1e-4) + 1e-12
    lowest, highest = limits(grid.dtype)
    assert lowest <= found.steps.min() <= found.steps.max() <= highest
    assert found.encoding.scale.shape == ((results, -(-inputs // block_size)) if block_size else (results,))


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize(("grid", "block_size"), [(GRIDS[0], 32), (GRIDS[3], 16), (GRIDS[4], 0)])
def test_making_up_for_errors_halves_them_on_dependent_inputs(grid: Grid, block_size: int, by_activation: bool) -> None:
    weights, x = layer(7, 64, 160, 2000)
    learned, unseen = x[:1500], x[1500:]
    found = gptq(weights, gram_of(learned), grid, block_size=block_size, by_activation=by_activation)
    nearest = round_to_nearest(weights, grid, axis=1 if block_size else 0, block_size=block_size)
    assert error(found, weights, unseen) < 0.5 * error(nearest, weights, unseen)


@given(
    seed=st.integers(0, 10**6),
    results=st.integers(1, 6),
    inputs=st.integers(1, 24),
    rows=st.integers(1, 40),
    grid=st.sampled_from(GRIDS),
    block_size=st.sampled_from([0, 4, 16]),
)
def test_learned_rounding_goes_up_or_down_and_is_never_worse_than_the_nearest(
    seed: int, results: int, inputs: int, rows: int, grid: Grid, block_size: int
) -> None:
    weights, x = layer(seed, results, inputs, rows)
    gram = gram_of(x)
    found = adaround(weights, gram, grid, block_size=block_size, steps=20)
    importance = np.diagonal(gram)[None] / np.diagonal(gram).max()
    axis = 1 if block_size else 0
    nearest = round_to_nearest(weights, grid, axis=axis, block_size=block_size, importance=importance)
    np.testing.assert_array_equal(found.encoding.scale, nearest.encoding.scale)
    errors = (np.square(x.astype(np.float64) @ (one.decoded() - weights).T).sum(axis=0) for one in (found, nearest))
    first, second = errors
    assert (first <= second * (1 + 1e-4) + 1e-12).all()  # of each result
    assert np.abs(found.steps - nearest.steps).max() <= 1
    lowest, highest = limits(grid.dtype)
    assert lowest <= found.steps.min() <= found.steps.max() <= highest


@pytest.mark.parametrize(("grid", "block_size"), [(GRIDS[0], 0), (GRIDS[3], 16), (GRIDS[4], 0)])
def test_learned_rounding_makes_errors_smaller_on_data_that_it_did_not_see(grid: Grid, block_size: int) -> None:
    weights, x = layer(7, 16, 64, 2000)
    learned, unseen = x[:1500], x[1500:]
    found = adaround(weights, gram_of(learned), grid, block_size=block_size)
    nearest = round_to_nearest(weights, grid, axis=1 if block_size else 0, block_size=block_size)
    assert error(found, weights, unseen) < 0.8 * error(nearest, weights, unseen)


def test_groups_are_learned_as_if_each_were_alone() -> None:
    layers = [layer(seed, 3, 9, 60) for seed in range(5)]
    weights = np.stack([weights for weights, _ in layers])
    grams = np.stack([gram_of(x) for _, x in layers])
    grams[2] = 0  # a channel that no sample feeds
    heard: list[tuple[int, int]] = []
    together = adaround_groups(weights, grams, GRIDS[0], steps=30, tell=lambda *done: heard.append(done))
    for one, matrix, gram in zip(together, weights, grams, strict=True):
        np.testing.assert_array_equal(one.steps, adaround(matrix, gram, GRIDS[0], steps=30).steps)
    np.testing.assert_array_equal(together[2].steps, round_to_nearest(weights[2], GRIDS[0], axis=0).steps)
    assert heard[0] == (1, 30) and heard[-1] == (30, 30)


def test_the_error_about_the_mean_is_what_a_bias_cannot_make_up_for() -> None:
    _, x = layer(9, 1, 12, 200)
    x += 5
    gram = Gram("layer", 1, 12)
    gram.update(x)
    apart = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(gram.centered()[0], apart.T @ apart, rtol=1e-3, atol=0.1)
    constant = Gram("layer", 1, 2)
    constant.update(np.full((50, 2), 0.1, np.float32))
    assert (np.diagonal(constant.centered()[0]) >= 0).all()


def test_weights_that_are_on_the_grid_stay_as_they_are() -> None:
    _, x = layer(3, 1, 24, 100)
    steps = np.random.default_rng(3).integers(-7, 8, (6, 24))
    steps[:, 0] = 7
    weights = (steps * 0.25).astype(np.float32)
    np.testing.assert_array_equal(gptq(weights, gram_of(x), Grid(DType.INT4, True)).decoded(), weights)


def test_channels_that_no_sample_feeds_are_rounded_to_the_nearest() -> None:
    weights, x = layer(4, 8, 32, 200)
    x[:, 5:9] = 0
    found = gptq(weights, gram_of(x), Grid(DType.INT8, True))
    off = np.abs(found.decoded() - weights)[:, 5:9]
    assert (off <= found.encoding.scale[:, None] * 0.5001).all()
    nothing = gptq(weights, np.zeros((32, 32)), Grid(DType.INT8, True))
    np.testing.assert_array_equal(nothing.steps, round_to_nearest(weights, Grid(DType.INT8, True), axis=0).steps)


@pytest.mark.parametrize("size", [1, 5, 64, 65, 150])
def test_the_factor_is_that_of_the_inverse(size: int) -> None:
    _, x = layer(size, 1, size, 3 * size + 5)
    gram = gram_of(x)
    upper = inverse_factor(gram, 0.01)
    np.testing.assert_array_equal(upper, np.triu(upper))
    damped = gram + np.eye(size) * 0.01 * np.diagonal(gram).mean()
    np.testing.assert_allclose(upper.T @ upper @ damped, np.eye(size), atol=1e-8)


def test_the_factor_of_a_matrix_that_is_not_positive_is_found_with_more_damping() -> None:
    gram = np.array([[1.0, 2.0], [2.0, 1.0]])
    assert np.isfinite(inverse_factor(gram, 0.0)).all()


@given(seed=st.integers(0, 10**6), sweeps=st.integers(1, 4))
def test_polishing_never_makes_an_error_larger(seed: int, sweeps: int) -> None:
    weights, x = layer(seed, 5, 30, 50)
    start = round_to_nearest(weights, Grid(DType.INT4, True), axis=1, block_size=8)
    found = polished(weights, gram_of(x), start, sweeps)
    assert error(found, weights, x) <= error(start, weights, x) * (1 + 1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize(("axis", "block_size"), [(None, 0), (0, 0), (2, 0), (1, 4)])
def test_searched_scales_are_no_worse_than_the_whole_range(grid: Grid, axis: int | None, block_size: int) -> None:
    weights = np.random.default_rng(5).laplace(size=(6, 10, 3)).astype(np.float32)
    searched = round_to_nearest(weights, grid, axis=axis, block_size=block_size)
    whole = round_to_nearest(weights, grid, axis=axis, block_size=block_size, is_searched=False)
    assert searched.encoding.scale.shape == whole.encoding.scale.shape
    loss = np.square(searched.decoded() - weights).sum()
    assert loss <= np.square(whole.decoded() - weights).sum()
    importance = np.exp(2 * np.random.default_rng(6).normal(size=(1, 10, 1)))
    heeded = round_to_nearest(weights, grid, axis=axis, block_size=block_size, importance=importance)
    assert (np.square(heeded.decoded() - weights) * importance).sum() <= (
        np.square(searched.decoded() - weights) * importance
    ).sum() * (1 + 1e-6)


@pytest.mark.parametrize("group", [1, 2, 6])
@pytest.mark.parametrize(
    ("strides", "dilations", "pads"), [((1, 1), (1, 1), (0, 0, 0, 0)), ((2, 1), (1, 2), (1, 2, 0, 1))]
)
def test_patches_are_what_a_convolution_multiplies(
    group: int, strides: tuple[int, ...], dilations: tuple[int, ...], pads: tuple[int, ...]
) -> None:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    generator = np.random.default_rng(8)
    x = generator.normal(size=(2, 6, 9, 8)).astype(np.float32)
    w = generator.normal(size=(12, 6 // group, 3, 2)).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=group, strides=strides, dilations=dilations, pads=pads)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in (("x", x), ("w", w))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    (expected,) = ReferenceEvaluator(helper.make_model(graph)).run(None, {"x": x, "w": w})
    arguments = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    rows = patches(x, (3, 2), positions=10**6, **arguments)
    found = np.matmul(rows, w.reshape(group, 12 // group, -1).transpose(0, 2, 1))  # (group, rows, results)
    found = found.transpose(0, 2, 1).reshape(12, 2, *expected.shape[2:]).swapaxes(0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert patches(x, (3, 2), positions=5, **arguments).shape == (group, 10, 6 // group * 6)


def test_sums_of_parts_are_those_of_the_whole() -> None:
    _, x = layer(9, 1, 12, 90)
    parts, other, whole = (Gram("layer", 1, 12) for _ in range(3))
    whole.update(x)
    parts.update(x[:30])
    other.update(x[30:70])
    other.update(x[70:])
    parts.merge(other)
    np.testing.assert_allclose(parts.matrices, whole.matrices, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(parts.means()[0], x.mean(axis=0), rtol=1e-4, atol=1e-5)
    change = np.random.default_rng(1).normal(size=(3, 12))
    expected = np.square(x.astype(np.float64) @ change.T).sum()
    assert squared_error(change, whole.matrices[0]) == pytest.approx(expected, rel=1e-4)


def test_inputs_that_do_not_fit_are_refused() -> None:
    gram = Gram("encoder/product", 1, 4)
    with pytest.raises(UsageError, match=r"'encoder/product' takes rows of 4 numbers .* shape \[3, 5\]"):
        gram.update(np.ones((3, 5)))
    with pytest.raises(UsageError, match="NaN, infinite or too large"):
        gram.update(np.full((3, 4), np.nan))
    assert gram.rows == 0
    with pytest.raises(UsageError, match="does not describe"):
        gptq(np.ones((2, 4), np.float32), np.ones((3, 3)), Grid(DType.INT8, True))
