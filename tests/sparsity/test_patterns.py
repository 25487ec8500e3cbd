"""Laws of N:M patterns, of compensation and of packed weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.errors import UsageError
from mace_core.quantization.weights.gram import squared_error
from mace_core.sparsity.compensate import prune_by_magnitude, prune_with_data, relative_error
from mace_core.sparsity.patterns import Pattern, choose_kept, has_pattern
from mace_core.sparsity.storage import pack, unpack

Array = np.ndarray[Any, Any]


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    group = draw(st.sampled_from([2, 4, 8]))
    return Pattern(
        draw(st.integers(1, group - 1)), group, draw(st.sampled_from([1, 2, 8, 32])), by_tap=draw(st.booleans())
    )


SIZES = st.tuples(st.integers(1, 40), st.sampled_from([1, 2, 9]), st.integers(1, 24))


def by_taps(weights: Array, taps: int) -> Array:
    """(outputs, inputs * taps) as (outputs, taps, inputs)."""
    return weights.reshape(len(weights), -1, taps).transpose(0, 2, 1)


@given(patterns(), SIZES, st.integers(0, 2**32 - 1))
def test_every_group_keeps_as_many_and_those_that_are_worth_most(
    pattern: Pattern, size: tuple[int, int, int], seed: int
) -> None:
    outputs, taps, inputs = size
    scores = np.random.default_rng(seed).random((outputs, taps, inputs))
    kept = choose_kept(scores, pattern)
    whole = inputs // pattern.group * pattern.group
    assert has_pattern(kept.astype(np.float32), pattern)
    assert kept[:, :, whole:].all(), "inputs behind the last group stay"
    assert (kept[:, :, :whole].reshape(outputs, taps, -1, pattern.group).sum(-1) == pattern.kept).all()
    for first in range(0, outputs, pattern.shared):
        rows = slice(first, first + pattern.shared)
        assert (kept[rows] == kept[first]).all(), "outputs share a pattern"
        for tap in range(taps) if pattern.by_tap and whole else [slice(None)] * (whole > 0):
            sums = scores[rows, tap, :whole].reshape(-1, whole).sum(0).reshape(-1, pattern.group)
            mine = kept[first, tap, :whole].reshape(-1, whole)[0].reshape(-1, pattern.group)
            for total, stays in zip(sums, mine, strict=True):
                assert total[stays].min() >= total[~stays].max() * (1 - 1e-9)


@given(patterns(), SIZES)
def test_a_weight_too_many_breaks_a_pattern(pattern: Pattern, size: tuple[int, int, int]) -> None:
    outputs, taps, inputs = size
    if inputs < pattern.group:
        return
    weights = np.zeros((outputs, taps, inputs), np.float32)
    weights[0, 0, : pattern.kept] = 1
    assert has_pattern(weights, pattern)
    weights[min(pattern.shared, outputs) - 1, 0, pattern.kept] = 1
    assert not has_pattern(weights, pattern)


@pytest.mark.parametrize("text", ["", "2", "2:", "2:4:8", "a:b", "4:4", "0:4", "5:4", "-1:4", "1:100", "2,4"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        Pattern.parse(text)


def test_a_pattern_is_written_as_it_is_read() -> None:
    assert str(Pattern.parse(" 2:4 ", 64)) == "2:4"
    with pytest.raises(UsageError, match="shared by 0"):
        Pattern(2, 4, 0)


# --- compensation -----------------------------------------------------------------------------------------------------


def layer(seed: int, outputs: int, columns: int, rows: int) -> tuple[Array, Array]:
    """Weights, and the Gram matrix of inputs that have much to do with each other."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((outputs, columns)).astype(np.float32)
    mixed = random.standard_normal((rows, columns)) @ random.standard_normal((columns, columns))
    return weights, mixed.T @ mixed


@settings(max_examples=40, deadline=None)
@given(
    patterns(), st.integers(1, 40), st.sampled_from([1, 9]), st.integers(1, 20), st.integers(1, 60), st.integers(0, 99)
)
def test_compensation_never_costs_accuracy(
    pattern: Pattern, outputs: int, taps: int, inputs: int, rows: int, seed: int
) -> None:
    weights, gram = layer(seed, outputs, inputs * taps, rows)
    plain = prune_by_magnitude(weights, pattern, taps)
    found = prune_with_data(weights, gram, pattern, taps)
    assert has_pattern(by_taps(found, taps), pattern)
    assert squared_error(found - weights, gram) <= squared_error(plain - weights, gram) * (1 + 1e-6)


@pytest.mark.parametrize("shared", [1, 32])
def test_compensation_halves_the_error_of_inputs_that_resemble_each_other(shared: int) -> None:
    """Inputs of 32 kinds, which are seen by 128 channels with a little noise."""
    random = np.random.default_rng(1)
    weights = random.standard_normal((64, 128)).astype(np.float32)
    inputs = random.standard_normal((1000, 32)) @ random.standard_normal((32, 128))
    inputs += 0.1 * random.standard_normal(inputs.shape)
    gram = inputs.T @ inputs
    plain = prune_by_magnitude(weights, Pattern(2, 4, shared))
    found = prune_with_data(weights, gram, Pattern(2, 4, shared))
    assert relative_error(found, weights, gram) < 0.5 * relative_error(plain, weights, gram)


def test_without_inputs_magnitude_decides() -> None:
    weights, _ = layer(1, 8, 16, 4)
    found = prune_with_data(weights, np.zeros((16, 16)), Pattern(2, 4, 1))
    np.testing.assert_array_equal(found, prune_by_magnitude(weights, Pattern(2, 4, 1)))


# --- packed weights ---------------------------------------------------------------------------------------------------


@given(patterns(), SIZES, st.booleans(), st.integers(0, 99))
def test_packed_weights_come_back_bit_for_bit(
    pattern: Pattern, size: tuple[int, int, int], is_pruned: bool, seed: int
) -> None:
    outputs, taps, inputs = size
    weights = np.random.default_rng(seed).standard_normal((outputs, inputs * taps)).astype(np.float32)
    weights[0, :1] = -0.0
    if is_pruned:
        weights = prune_by_magnitude(weights, pattern, taps)
    packed = pack(weights, pattern, taps)
    np.testing.assert_array_equal(unpack(packed).view(np.uint32), weights.view(np.uint32))


def test_packed_weights_take_half() -> None:
    weights = np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)
    for shared in (32, 64):
        pattern = Pattern(2, 4, shared)
        assert pack(prune_by_magnitude(weights, pattern), pattern, 1).nbytes < 0.54 * weights.nbytes
