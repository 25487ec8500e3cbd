"""Weights that are zero in patterns: what a tile's columns have no weights for is left out, and results stay right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from harness import FEATURES, Ran, _backend, ask_onnxruntime, check_nodes, make_model, make_view
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.conv.direct.lower import direct_kernel
from mace_cpu.conv.winograd import lower as winograd
from mace_cpu.conv.winograd.lower import winograd_kernel
from mace_cpu.matmul.lower_packed import gemm_kernel
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.tiles.choose import most_rows, widest_tile
from mace_cpu.shared.tiles.kept import KeptSteps, has_many_zeros, used_by_tiles
from onnx import NodeProto, helper

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.target import foreign_target, host_target
from mace_core.sparsity.patterns import Pattern, choose_kept

Array = np.ndarray[Any, Any]

MASKS = (*FEATURES, "avx512")
PATTERNS = [Pattern(2, 4, 32), Pattern(2, 4, 64), Pattern(2, 4, 32, by_tap=True), Pattern(1, 4, 32), Pattern(4, 8, 32)]


def usable(features: str | None) -> None:
    if features not in (None, "baseline"):
        try:
            host_target(features)
        except UsageError as missing:
            pytest.skip(str(missing))


def pruned(weights: Array, pattern: Pattern) -> Array:
    """(O, C, *kernel) by magnitude."""
    by_taps = np.abs(weights).reshape(*weights.shape[:2], -1).transpose(0, 2, 1)
    return np.where(choose_kept(by_taps, pattern).transpose(0, 2, 1).reshape(weights.shape), weights, np.float32(0))


def check_conv(
    shape: Sequence[int],
    out: int,
    kernel: Sequence[int],
    pattern: Pattern,
    *,
    group: int = 1,
    then: Sequence[NodeProto] = (),
    extra: Mapping[str, Array] | None = None,
    features: str | None = None,
    threads: int = 1,
    blocked: bool = True,
    **attributes: Any,
) -> Ran:
    random = np.random.default_rng(7)
    x = random.standard_normal(shape).astype(np.float32)
    grouped = [
        pruned(random.standard_normal((out // group, shape[1] // group, *kernel)).astype(np.float32), pattern)
        for _ in range(group)
    ]
    inputs = {"x": x, "w": np.concatenate(grouped), "b": random.standard_normal(out).astype(np.float32)}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", group=group, **attributes)
    return check_nodes(
        [conv, *then],
        {**inputs, **(extra or {})},
        [then[-1].output[0] if then else "y"],
        constants=("w", "b"),
        blocked=("x",) if blocked else (),
        features=features,
        threads=threads,
        tol=3e-5,
        oracle="onnxruntime",
    )


def is_sparse(ran: Ran) -> bool:
    return any("sparse" in step for step in ran.steps)


# --- convolutions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes"),
    [
        ((1, 64, 14, 14), 64, (1, 1), {}),
        ((1, 72, 7, 9), 96, (1, 1), {"pads": [1, 0, 1, 2]}),
        ((2, 36, 15, 9), 32, (1, 1), {"strides": [2, 2]}),
        ((1, 64, 9, 13), 64, (3, 3), {"pads": [1, 2, 0, 1], "strides": [2, 2]}),
        ((1, 40, 12, 12), 64, (3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
        ((1, 32, 33, 21), 32, (5, 1), {"pads": [2, 0, 2, 0]}),
    ],
)
def test_convolutions_leave_out_what_is_zero(
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    attributes: dict[str, Any],
    pattern: Pattern,
    features: str | None,
) -> None:
    usable(features)
    assert is_sparse(check_conv(shape, out, kernel, pattern, features=features, threads=2, **attributes))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_convolutions_of_any_shape(data: st.DataObject) -> None:
    """Whether or not it pays, also where groups of channels and tiles are not whole; spare lanes are NaN."""
    draw = data.draw
    group = draw(st.sampled_from([1, 1, 1, 2]))
    channels = draw(st.sampled_from([32, 64])) if group > 1 else draw(st.integers(1, 90))
    out = draw(st.sampled_from([32, 64])) * group if group > 1 else draw(st.integers(1, 100))
    kernel = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (2, 3), (1, 7), (5, 5)]))
    strides, dilations = draw(st.sampled_from([[1, 1], [2, 2], [1, 2]])), draw(st.sampled_from([[1, 1], [2, 1]]))
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    size = [
        max((k - 1) * d + 1 - p, 1) + draw(st.integers(0, 20))
        for k, d, p in zip(kernel, dilations, (pads[0] + pads[2], pads[1] + pads[3]), strict=True)
    ]
    pattern = Pattern(
        *draw(st.sampled_from([(2, 4), (1, 4), (3, 4), (1, 2), (2, 16)])), draw(st.sampled_from([1, 32, 64]))
    )
    check_conv(
        (draw(st.integers(1, 2)), channels * group, *size),
        out,
        kernel,
        pattern,
        group=group,
        features=draw(st.sampled_from(FEATURES)),
        threads=draw(st.sampled_from([1, 2])),
        blocked=draw(st.booleans()),
        strides=strides,
        dilations=dilations,
        pads=pads,
    )


@pytest.mark.parametrize("features", FEATURES)
def test_activations_and_residuals_are_fused(features: str | None) -> None:
    other = np.random.default_rng(1).standard_normal((1, 64, 14, 14)).astype(np.float32)
    then = [helper.make_node("Add", ["y", "other"], ["s"]), helper.make_node("Relu", ["s"], ["r"])]
    ran = check_conv(
        (1, 64, 14, 14), 64, (1, 1), PATTERNS[0], then=then, extra={"other": other}, features=features, threads=2
    )
    assert any(step.startswith("Conv+Add+Relu (sparse") for step in ran.steps)


def kernels(shape: tuple[int, ...], weights: Array, features: str | None = None, **attributes: Any) -> list[str]:
    """Symbols of the kernels that a Conv is lowered to."""
    x = np.ones(shape, np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    model = make_model([node], {"x": x, "w": weights}, ["y"], 21, ("w",))
    (y,) = ask_onnxruntime(model, {"x": x})
    view = make_view(model, {"x": x, "w": weights}, {"y": y}, ["y"])
    return [step.kernel.symbol for step in _backend(features, 1)._lower(view).steps.emitted]


def random_weights(*shape: int) -> Array:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(1, 64, 40, 40), (1, 64, 27, 31)])
@pytest.mark.parametrize("results", [2, 3, 4])
@pytest.mark.parametrize("features", FEATURES)
def test_winograd_multiplies_the_channels_that_have_weights(
    size: tuple[int, ...], results: int, features: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "RESULTS", (results,))
    monkeypatch.setattr(winograd, "WORTH_IT", float("inf"))
    pattern = Pattern(2, 4, 32)
    for out in (64, 80):
        found = kernels(size, pruned(random_weights(out, 64, 3, 3), pattern), features, pads=[1, 1, 1, 1])
        assert any(f"conv_winograd{results}_kept" in symbol for symbol in found)
        check_conv(size, out, (3, 3), pattern, features=features, threads=2, pads=[1, 1, 1, 1])


def test_costs_choose_between_winograd_and_direct() -> None:
    """A pattern for each tap leaves Winograd's method nothing to leave out, so it wins where it is twice as fast."""
    around = {"pads": [1, 1, 1, 1]}
    weights = random_weights(64, 64, 3, 3)
    whole = kernels((1, 64, 56, 56), pruned(weights, Pattern(2, 4, 32)), **around)
    by_tap = kernels((1, 64, 56, 56), pruned(weights, Pattern(2, 4, 32, by_tap=True)), **around)
    assert any("conv_winograd4_kept" in symbol for symbol in whole)
    assert any("conv_winograd4_b" in symbol for symbol in by_tap)
    narrow = kernels((1, 64, 56, 56), pruned(weights, Pattern(1, 8, 32, by_tap=True)), **around)
    assert any("conv_bkept" in symbol for symbol in narrow)


def test_weights_without_a_pattern_stay_dense() -> None:
    dense = random_weights(64, 64, 1, 1)
    assert not any("kept" in symbol for symbol in kernels((1, 64, 14, 14), dense))
    scattered = np.where(np.random.default_rng(1).random(dense.shape) < 0.5, dense, np.float32(0))
    assert not any("kept" in symbol for symbol in kernels((1, 64, 14, 14), scattered))
    alone = pruned(dense, Pattern(2, 4, 1))
    assert not any("kept" in symbol for symbol in kernels((1, 64, 14, 14), alone))


def test_channels_that_nobody_reads_are_left_out() -> None:
    weights = random_weights(64, 64, 1, 1)
    weights[:, np.arange(64) % 8 >= 3] = 0
    assert any("kept" in symbol for symbol in kernels((1, 64, 14, 14), weights))


def test_a_pattern_found_is_stored_once_and_small() -> None:
    """Packed weights have the size of what is kept."""
    weights = pruned(random_weights(512, 512, 1, 1), Pattern(2, 4, 32))
    sizes = []
    for array in (weights, random_weights(512, 512, 1, 1)):
        x = np.ones((1, 512, 7, 7), np.float32)
        model = make_model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": x, "w": array}, ["y"], 21, ("w",))
        view = make_view(model, {"x": x, "w": array}, {"y": ask_onnxruntime(model, {"x": x})[0]}, ["y"])
        sizes.append(sum(buf.nbytes for buf, _ in _backend(None, 1)._lower(view).constants.all))
    assert sizes[0] < 0.53 * sizes[1]


@pytest.mark.parametrize("features", FEATURES)
def test_bands_join_sparse_convolutions(features: str | None) -> None:
    then = [helper.make_node("MaxPool", ["y"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])]
    ran = check_conv((1, 32, 96, 96), 64, (1, 1), PATTERNS[0], then=then, features=features, threads=2)
    assert any("Conv" in step and "MaxPool" in step for step in ran.steps), ran.steps


# --- products ---------------------------------------------------------------------------------------------------------


def check_product(
    rows: Sequence[int], steps: int, columns: int, pattern: Pattern, *, features: str | None = None, **how: Any
) -> Ran:
    random = np.random.default_rng(5)
    weights = pruned(random.standard_normal((columns, steps)).astype(np.float32), pattern)
    inputs = {"x": random.standard_normal((*rows, steps)).astype(np.float32), "w": np.ascontiguousarray(weights.T)}
    if how.pop("gemm", False):
        inputs["b"] = random.standard_normal(columns).astype(np.float32)
        inputs["w"] = weights
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5)
    else:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return check_nodes(
        [node, helper.make_node("Relu", ["y"], ["r"])],
        inputs,
        ["r"],
        constants=("w", "b") if "b" in inputs else ("w",),
        features=features,
        tol=3e-5,
        oracle="onnxruntime",
        **how,
    )


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("pattern", PATTERNS[:2], ids=lambda pattern: f"{pattern.shared}")
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 37])
def test_products_leave_out_what_is_zero(rows: int, pattern: Pattern, features: str | None) -> None:
    usable(features)
    for columns in (128, 200):
        assert is_sparse(check_product([rows], 96, columns, pattern, features=features, threads=2))
        assert is_sparse(check_product([rows], 96, columns, pattern, features=features, gemm=True))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_products_of_any_shape(data: st.DataObject) -> None:
    draw = data.draw
    pattern = Pattern(*draw(st.sampled_from([(2, 4), (1, 4), (1, 8)])), draw(st.sampled_from([1, 16, 32, 64])))
    gemm = draw(st.booleans())
    check_product(
        [draw(st.integers(1, 40))] if gemm else draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)),
        draw(st.integers(1, 130)),
        draw(st.integers(1, 150)),
        pattern,
        gemm=gemm,
        features=draw(st.sampled_from(FEATURES)),
        threads=draw(st.sampled_from([1, 2])),
    )


def test_stacks_of_right_operands_have_patterns_of_their_own() -> None:
    random = np.random.default_rng(2)
    weights = np.stack(
        [pruned(random.standard_normal((64, 96)).astype(np.float32), Pattern(2, 4, 64)).T for _ in range(3)]
    )
    x = random.standard_normal((3, 10, 96)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ran = check_nodes([node], {"x": x, "w": weights}, ["y"], constants=("w",), tol=3e-5, oracle="onnxruntime")
    assert is_sparse(ran)


def has_picks(ran: Ran) -> bool:
    return any("2:4 in each column" in step for step in ran.steps)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("rows", [1, 2, 7])
def test_columns_with_patterns_of_their_own(rows: int, features: str | None) -> None:
    """An ordinary 2:4 weight: used where few rows are multiplied and the instruction set permutes floats."""
    usable(features)
    for steps, columns, gemm in ((96, 200, False), (36, 70, True), (4, 5, False)):
        ran = check_product([rows], steps, columns, Pattern(2, 4, 1), features=features, threads=2, gemm=gemm)
        pays = features != "baseline" and (rows <= 2 or features != "avx2")
        assert has_picks(ran) == pays, ran.steps
    assert not has_picks(check_product([rows], 98, 70, Pattern(2, 4, 1), features=features))
    assert not has_picks(check_product([40], 96, 70, Pattern(2, 4, 1), features=features))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_at_most_two_of_four_in_each_column(data: st.DataObject) -> None:
    """Groups with one weight or none, columns and whole operands of zeros, stacks of operands."""
    draw = data.draw
    random = np.random.default_rng(draw(st.integers(0, 99)))
    stack = draw(st.sampled_from([(), (), (3,)]))
    groups, columns, rows = draw(st.integers(1, 20)), draw(st.integers(1, 140)), draw(st.integers(1, 12))
    order = np.argsort(random.random((*stack, groups, 4, columns)), axis=-2)
    kept = order < random.integers(0, draw(st.integers(1, 3)), (*stack, groups, 1, columns))
    weights = (random.standard_normal(kept.shape) * kept).astype(np.float32).reshape(*stack, 4 * groups, columns)
    x = random.standard_normal((*stack, rows, 4 * groups)).astype(np.float32)
    check_nodes(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": x, "w": weights},
        ["y"],
        constants=("w",),
        features=draw(st.sampled_from(FEATURES)),
        threads=draw(st.sampled_from([1, 2])),
        tol=3e-5,
        oracle="onnxruntime",
    )


def test_packed_columns_take_half_the_memory() -> None:
    sizes = []
    x = np.ones((1, 512), np.float32)
    dense = random_weights(512, 512, 1, 1)
    for array in (pruned(dense, Pattern(2, 4, 1)), dense):
        weights = np.ascontiguousarray(array[:, :, 0, 0].T)
        model = make_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": x, "w": weights}, ["y"], 21, ("w",))
        view = make_view(model, {"x": x, "w": weights}, {"y": x}, ["y"])
        sizes.append(sum(buf.nbytes for buf, _ in _backend(None, 1)._lower(view).constants.all))
    assert sizes[0] < 0.55 * sizes[1]


# --- what is kept -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 20), st.data())
def test_all_weights_are_kept_and_in_order(outer: int, inner: int, run: int, data: st.DataObject) -> None:
    used = np.array(data.draw(st.lists(st.booleans(), min_size=outer * inner * run, max_size=outer * inner * run)))
    used = used.reshape(outer, inner, run)
    kept = KeptSteps.of(used)
    rows = np.where(used[..., None], np.arange(1, used.size + 1).reshape(*used.shape, 1), 0)
    found = kept.of_rows(rows)
    back = np.zeros_like(rows)
    np.put_along_axis(back, kept.order[..., None], found, axis=-2)
    assert (back == rows).all()
    assert kept.count == max(used.sum(axis=-1).max(), 1)
    assert (kept.order >= 0).all() and (kept.order < run).all()


def test_a_sample_finds_zeros_whatever_their_period() -> None:
    for shape in ((64, 64, 1, 1), (512, 512, 3, 3), (96, 100, 1, 1), (1000, 2048)):
        weights = random_weights(*shape)
        assert not has_many_zeros(weights)
        for period in (2, 4, 64, 2048):
            holed = weights.copy()
            holed.reshape(-1)[::2] = 0
            assert has_many_zeros(holed), period
    assert not has_many_zeros(np.zeros(0, np.float32))


def test_the_last_tile_need_not_be_full() -> None:
    weights = np.zeros((5, 3), np.float32)
    weights[4, 2] = weights[0, 1] = 1
    assert used_by_tiles(weights, 2).tolist() == [[False, True, False], [False] * 3, [False, False, True]]


# --- code -------------------------------------------------------------------------------------------------------------


def sources(target: Any, block: int) -> list[tuple[Any, int]]:
    """Kernels, and how many vectors their tiles have."""
    blocks = widest_tile(target, block)
    rows = most_rows(target, block, blocks)
    lanes = max(target.vector_bits // 32, 4)
    vectors = blocks * max(block * 32 // target.vector_bits, 1)
    return [
        (direct_kernel(rows, blocks, block, 1, False, Epilogue(), kept=True), rows * vectors),
        (direct_kernel(rows, blocks, block, 1, False, Epilogue(), kept=True, one_tap=True), rows * vectors),
        (winograd_kernel(4, rows, blocks, block, Epilogue(), kept=True), rows * vectors),
        (gemm_kernel(min(rows, 12), 2, lanes, False, Epilogue(), kept=True), min(rows, 12) * 2),
    ]


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_architecture_compiles_it(architecture: str) -> None:
    target = foreign_target(architecture)
    for source, _ in sources(target, 16 if target.vector_bits >= 512 else 8):
        assert len(compile_object(source.build(target), source.symbol, target)) > 500


@pytest.mark.parametrize("features", ["avx512", "avx2"])
def test_tiles_stay_in_registers(features: str) -> None:
    usable(features)
    target = host_target(features)
    for source, vectors in sources(target, 16 if target.vector_bits >= 512 else 8):
        assembly = compile_assembly(source.build(target), source.symbol, target)
        loops = [part for part in re.split(r"\n(?=\.LBB)", assembly) if part.count("vfmadd231ps") == vectors]
        assert loops, f"the innermost loop of {source.symbol} was not found"
        moved = [line for part in loops for line in part.splitlines() if "mm" in line and "rsp" in line]
        assert not moved, f"{source.symbol} spills vectors: {moved[:3]}"
