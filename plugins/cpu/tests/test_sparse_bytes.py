"""Weights of 8 bits that are zero in patterns: what no channel of a tile has weights for is left out, and sums stay
exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from harness import FEATURES, Ran, check_node
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.convolution.arguments import Copies, Variant
from mace_cpu.quantized.convolution.dense import dense_kernel
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.quads import QuadUnit
from mace_cpu.shared.tiles.kept_bytes import kept_bytes, window_bytes
from test_byte_conv import check_conv, given_inputs
from test_byte_products import exact, requantized, whole
from test_sparse import pruned, usable

from mace_core.native.compiler import compile_object
from mace_core.native.target import foreign_target, host_target
from mace_core.sparsity.patterns import Pattern

Array = npt.NDArray[Any]

MASKS = (*FEATURES, "avx512", "sse4")
PERMUTING = (None, "avx512", "avx2", "sse4")
"""Instruction sets that permute bytes."""


def is_sparse(ran: Ran) -> bool:
    return any("sparse" in step for step in ran.steps)


def emptied(weights: Array, kept: Array, zero: int = 0) -> Array:
    """Weights that are zero where ``kept`` is not."""
    return np.where(kept, np.where(weights == zero, weights + 1, weights), zero).astype(weights.dtype)


def kept_by(pattern: Pattern, shape: tuple[int, ...]) -> Array:
    """Where weights (O, C, *kernel) pruned to ``pattern`` are not zero."""
    return pruned(np.random.default_rng(4).uniform(1, 2, shape).astype(np.float32), pattern) != 0


# --- convolutions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", PERMUTING)
@pytest.mark.parametrize("types", [("uint8", "int8", "uint8"), ("int8", "uint8", "int8")], ids="-".join)
@pytest.mark.parametrize(
    "pattern", [Pattern(2, 4, 64), Pattern(2, 4, 32, by_tap=True), Pattern(1, 4, 64), Pattern(4, 8, 64)], ids=str
)
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 64, 9, 14), (64, 64, 1, 1), {}),
        ((1, 200, 7, 7), (128, 200, 1, 1), {}),
        ((2, 80, 9, 9), (64, 80, 1, 1), {"strides": [2, 2]}),
        ((1, 64, 10, 13), (64, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((1, 64, 9, 9), (64, 64, 3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 2], "dilations": [1, 2]}),
    ],
)
def test_convolutions_leave_out_what_is_zero(
    x: tuple[int, ...],
    w: tuple[int, ...],
    attributes: dict[str, Any],
    pattern: Pattern,
    types: tuple[str, str, str],
    features: str | None,
) -> None:
    usable(features)
    inputs = given_inputs(np.random.default_rng(3), x, w, types)
    inputs["w"] = emptied(inputs["w"], kept_by(pattern, w), int(inputs["w_zero"][0]))
    ran = check_conv(inputs, attributes, features=features, threads=2)
    assert is_sparse(ran), ran.steps


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_convolutions_with_any_zeros(data: st.DataObject) -> None:
    """Whole channels, taps and tiles of zeros, patterns of any kind, whether or not leaving them out pays."""
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    w_shape = (
        draw(st.sampled_from([16, 32, 40, 64, 100])) * groups,
        draw(st.integers(1, 150)),
        *draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (2, 1), (1, 4)])),
    )
    attributes = {
        "group": groups,
        "strides": draw(st.sampled_from([[1, 1], [2, 2]])),
        "dilations": draw(st.sampled_from([[1, 1], [2, 2]])),
        "pads": [draw(st.integers(0, 2)) for _ in range(4)],
    }
    spans = [(k - 1) * d + 1 for k, d in zip(w_shape[2:], attributes["dilations"], strict=True)]
    size = [span + draw(st.integers(0, 9)) for span in spans]
    types = tuple(draw(st.sampled_from(["uint8", "int8"])) for _ in range(3))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    inputs = given_inputs(random, (draw(st.integers(1, 2)), w_shape[1] * groups, *size), w_shape, types)  # type: ignore[arg-type]
    shared = draw(st.sampled_from([1, 16, 32, 64, w_shape[0]]))
    tiles = -(-w_shape[0] // shared)
    kept = random.random((tiles, *w_shape[1:])) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.7]))
    if draw(st.booleans()):
        kept[:, :, draw(st.integers(0, w_shape[2] - 1))] = False
    if draw(st.booleans()):
        kept[0] = draw(st.booleans())
    if draw(st.booleans()):
        kept[:, draw(st.integers(0, w_shape[1] - 1)) :] = False
    wide = np.repeat(kept, shared, axis=0)[: w_shape[0]]
    inputs["w"] = emptied(inputs["w"], wide, int(inputs["w_zero"][0]))
    check_conv(inputs, attributes, features=draw(st.sampled_from(MASKS)), threads=draw(st.integers(1, 2)))


def test_dense_weights_and_scattered_zeros_stay_as_they_are() -> None:
    inputs = given_inputs(np.random.default_rng(3), (1, 64, 9, 9), (64, 64, 1, 1))
    assert not is_sparse(check_conv(inputs, {}))
    inputs["w"] = emptied(inputs["w"], kept_by(Pattern(2, 4, 1), inputs["w"].shape))
    assert not is_sparse(check_conv(inputs, {}))


# --- products ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", PERMUTING)
@pytest.mark.parametrize("shared", [32, 64])
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_products_leave_out_what_is_zero(
    rows: int, shared: int, features: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable(features)

    def some(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
        found = whole(rng, dtype, shape)
        if len(shape) == 2 and shape[0] == 132:
            kept = kept_by(Pattern(2, 4, shared), (shape[1], shape[0], 1, 1))[:, :, 0, 0].T
            return emptied(found, kept, 128 if dtype == "uint8" else 0)
        return found

    monkeypatch.setattr("test_byte_products.whole", some)
    for right, columns in (("int8", 128), ("uint8", 72)):
        ran = requantized(rows, 132, columns, "uint8", right, "uint8", True, features=features, threads=2)
        assert is_sparse(ran), ran.steps


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_products_with_any_zeros(data: st.DataObject) -> None:
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 99)))
    rows, steps, columns = draw(st.integers(1, 30)), draw(st.integers(1, 200)), draw(st.integers(1, 150))
    stack = draw(st.sampled_from([(), (), (3,)]))
    a, b = (
        whole(random, draw(st.sampled_from(["uint8", "int8"])), (*stack, rows, steps)),
        whole(random, "int8", (*stack, steps, columns)),
    )
    shared = draw(st.sampled_from([1, 16, 32, 64]))
    kept = random.random((*stack, steps, -(-columns // shared))) < draw(st.sampled_from([0.0, 0.3, 0.5]))
    b = emptied(b, np.repeat(kept, shared, axis=-1)[..., :columns])
    zero = whole(random, str(a.dtype), ())
    check_node(
        "MatMulInteger",
        {"a": a, "b": b, "az": zero},
        constants=("b", "az"),
        expected=[exact(a, b, zero, None)],
        features=draw(st.sampled_from(MASKS)),
        threads=draw(st.integers(1, 2)),
    )


def has_picks(ran: Ran) -> bool:
    return any("2:4 in each column" in step for step in ran.steps)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_columns_with_patterns_of_their_own(data: st.DataObject) -> None:
    """Ordinary 2:4 weights, also with groups of one weight or none, in products of few rows."""
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 99)))
    stack, rows = draw(st.sampled_from([(), (), (2,)])), draw(st.integers(1, 5))
    steps, columns = 32 * draw(st.integers(1, 5)) + draw(st.sampled_from([0, 0, 0, 4])), draw(st.integers(1, 150))
    order = np.argsort(random.random((*stack, steps // 4, 4, columns)), axis=-2)
    kept = order < random.integers(0, draw(st.integers(1, 3)), (*stack, steps // 4, 1, columns))
    a = whole(random, draw(st.sampled_from(["uint8", "int8"])), (*stack, rows, steps))
    b = emptied(whole(random, "int8", (*stack, steps, columns)), kept.reshape(*stack, steps, columns))
    zero = whole(random, str(a.dtype), ())
    check_node(
        "MatMulInteger",
        {"a": a, "b": b, "az": zero},
        constants=("b", "az"),
        expected=[exact(a, b, zero, None)],
        features=draw(st.sampled_from(MASKS)),
        threads=draw(st.integers(1, 2)),
    )


@pytest.mark.skipif(not host_target().has("avx512vbmi"), reason="needs AVX512-VBMI")
def test_ordinary_patterns_are_used_where_they_pay() -> None:
    for rows, columns, pays in ((1, 70, True), (2, 70, True), (3, 70, False), (3, 11000, True), (5, 11000, False)):
        random = np.random.default_rng(1)
        kept = kept_by(Pattern(2, 4, 1), (columns, 96, 1, 1))[:, :, 0, 0].T
        a, b = whole(random, "uint8", (rows, 96)), emptied(whole(random, "int8", (96, columns)), kept)
        ran = check_node("MatMulInteger", {"a": a, "b": b}, constants=("b",), expected=[exact(a, b, None, None)])
        assert has_picks(ran) == pays, (rows, columns, ran.steps)


# --- what is kept -----------------------------------------------------------------------------------------------------


@given(st.sampled_from([16, 32, 64]), st.integers(0, 100), st.integers(1, 4), st.floats(0, 0.7), st.integers(0, 99))
def test_permutations_bring_the_kept_bytes_together(
    window: int, more: int, runs: int, density: float, seed: int
) -> None:
    """Each one reads within its run, and none overwrites what one before it brought."""
    run = window + more
    used = np.random.default_rng(seed).random((runs, run)) < density
    kept = kept_bytes(used, window)
    if kept is None:
        assert -(-max(used.sum(1).max(), 1) // 4) * 4 > 0.8 * run
        return
    source = np.arange(run) + 1
    for number in range(runs):
        target = np.zeros(kept.row_bytes, int)
        for (start, place), index in zip(kept.places[number], kept.indices[number], strict=True):
            assert 0 <= start <= run - window
            target[place : place + kept.stored] = source[start : start + window][index][: kept.stored]
        assert (target[: kept.count] == source[kept.order[number]]).all()
        assert used[number].sum() == used[number][kept.order[number]].sum()


# --- code -------------------------------------------------------------------------------------------------------------


def test_every_architecture_compiles_it() -> None:
    targets = [foreign_target("aarch64"), host_target("sse4" if host_target().architecture == "x86_64" else None)]
    for target in targets:
        window = window_bytes(target, 64)
        assert window == 16
        unit, spec = QuadUnit.of(target), Requantization("uint8")
        flags = False, True, True, False, False, False, False
        variant = Variant(4, 2, unit, False, 0, Copies.NONE, 0, *flags, 1, spec, window, 8, 576)
        source = dense_kernel(variant)
        assert len(compile_object(source.build(target), source.symbol, target)) > 500
