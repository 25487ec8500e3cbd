"""Precision bfloat16: exact products of rounded operands, layouts between layers, the option and its errors.

The arithmetic is checked with the units that compute the same with ordinary instructions, so everywhere; a processor
that has one of the real units runs the same tests with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from harness import Ran, ask_onnxruntime, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.provider import CpuProvider
from mace_cpu.shared.layouts.pairs import pair_weights, rounded
from mace_cpu.shared.precision import PairUnit, best_units, choose_instructions
from onnx import helper, numpy_helper

from mace_core.errors import UsageError
from mace_core.native.target import host_target

Array = np.ndarray[Any, Any]

UNIT_ROUNDOFF = 2.0**-8
"""Largest relative error of rounding to 8 bits, one of them implied: half a unit in the last place of 2 ** -7."""

QUICK = settings(max_examples=25)


def usable() -> list[str]:
    """Values of the option ``features`` that this processor can run with precision bfloat16."""
    wanted = [f"host+{unit.feature}" for unit in PairUnit if unit.precision == "bfloat16"]
    wanted += ["avx2+bf16-emulated", "baseline+bf16-emulated"]
    found = []
    for features in wanted:
        try:
            choose_instructions(features, "bfloat16")
        except UsageError:
            continue
        found.append(features)
    return found


USABLE = usable()


def nearest(values: Array) -> Array:
    """``values`` rounded to bfloat16, as float32."""
    return (rounded(values).astype(np.uint32) << np.uint32(16)).view(np.float32)


def with_rounded_operands(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """onnxruntime's results for the rounded input ``x0`` and weights ``x1`` (not the bias)."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == "x1":
            tensor.CopyFrom(numpy_helper.from_array(nearest(numpy_helper.to_array(tensor)), "x1"))
    return ask_onnxruntime(changed, {**feeds, "x0": nearest(feeds["x0"])})


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv(
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    *,
    features: str,
    group: int = 1,
    blocked: bool = False,
    threads: int = 1,
    **attributes: Any,
) -> Ran:
    operands = [numbers(1, *shape), numbers(2, out, shape[1] // group, *kernel), numbers(3, out)]
    return check_node(
        "Conv",
        operands,
        {"group": group, **attributes},
        constants=("x1", "x2"),
        blocked=("x0",) if blocked else (),
        features=features,
        threads=threads,
        tol=2e-5,
        oracle=with_rounded_operands,
    )


# --- rounding ---------------------------------------------------------------------------------------------------------


@given(st.floats(width=32))
def test_rounding_is_to_the_nearest_and_of_two_to_the_even_one(number: float) -> None:
    value = np.array([number], np.float32)
    got = nearest(value)
    if np.isnan(value[0]):
        assert np.isnan(got[0])
        return
    bits = int(value.view(np.uint32)[0])
    if bits & 0x7FFFFFFF >= 0x7F7F8000:
        assert np.isinf(got[0])  # as far above the largest bfloat16 as a next one would round up
        return
    below = np.array([bits & 0xFFFF0000], np.uint32).view(np.float32).astype(np.float64)
    above = np.array([(bits & 0xFFFF0000) + 0x10000], np.uint32).view(np.float32).astype(np.float64)
    if not np.isfinite(above[0]):
        above = np.sign(below) * 2.0**128
    down, up = abs(value[0] - below[0]), abs(above[0] - value[0])
    if down != up:
        assert got[0] == (below if down < up else above)[0]
    else:
        assert int(got.view(np.uint32)[0]) & 0x10000 == 0


def test_weights_become_words_of_two_neighbors() -> None:
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    words = pair_weights(weights, axis=1).view(np.uint32)
    assert words.shape == (2, 2)
    halves = np.stack([words & 0xFFFF, words >> 16], axis=-1).astype(np.uint32) << np.uint32(16)
    np.testing.assert_array_equal(halves.astype(np.uint32).view(np.float32).reshape(2, 4), [[0, 1, 2, 0], [3, 4, 5, 0]])


# --- convolutions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", USABLE)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes"),
    [
        ((1, 64, 14, 14), 64, (1, 1), {}),
        ((2, 33, 9, 13), 50, (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ((1, 17, 7, 7), 35, (5, 5), {"pads": [2, 2, 2, 2]}),
        ((1, 64, 8, 20), 64, (3, 3), {"pads": [1, 1, 1, 1], "group": 2}),
        ((1, 40, 11, 40), 24, (3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ((1, 48, 37), 32, (3,), {"pads": [1, 1]}),
        ((3, 96, 1, 1), 26, (1, 1), {}),
        ((1, 1100, 5, 7), 40, (1, 1), {}),
        ((1, 320, 6, 45), 40, (3, 3), {"pads": [1, 1, 1, 1]}),
    ],
)
def test_a_convolution_is_that_of_the_rounded_operands(
    features: str, shape: tuple[int, ...], out: int, kernel: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    ran = conv(shape, out, kernel, features=features, blocked=True, **attributes)
    assert any("bfloat16" in step for step in ran.steps), ran.steps


@QUICK
@given(
    features=st.sampled_from(USABLE),
    batch=st.integers(1, 2),
    channels=st.integers(16, 70),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    out=st.integers(20, 70),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    threads=st.sampled_from((1, 3)),
)
def test_any_convolution_is_that_of_the_rounded_operands(
    features: str,
    batch: int,
    channels: int,
    size: tuple[int, int],
    out: int,
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    pads: tuple[int, ...],
    threads: int,
) -> None:
    spans = [(k - 1) * dilation + 1 for k in kernel]
    if any(size[i] + pads[i] + pads[i + 2] < spans[i] for i in range(2)):
        return
    conv(
        (batch, channels, *size),
        out,
        kernel,
        features=features,
        blocked=True,
        threads=threads,
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        pads=list(pads),
    )


@QUICK
@given(features=st.sampled_from(USABLE), channels=st.integers(16, 300), scale=st.sampled_from((1e-20, 1.0, 1e15)))
def test_the_error_is_within_what_eight_bits_allow(features: str, channels: int, scale: float) -> None:
    """|error| <= (2 u + u^2) sum |x w| for rounding both operands, and a little for summing in float32."""
    x, w = numbers(channels, 1, channels, 5, 6) * np.float32(scale), numbers(channels + 1, 40, channels, 1, 1)
    exact = np.einsum("nchw,oc->nohw", x.astype(np.float64), w[:, :, 0, 0].astype(np.float64))
    weight = np.einsum("nchw,oc->nohw", np.abs(x).astype(np.float64), np.abs(w[:, :, 0, 0]).astype(np.float64))
    ran = check_node(
        "Conv", [x, w], constants=("x1",), blocked=("x0",), features=features, tol=2e-5, oracle=with_rounded_operands
    )
    bound = (2 * UNIT_ROUNDOFF + UNIT_ROUNDOFF**2 + 2 * channels * 2.0**-24) * weight
    assert (np.abs(ran.outputs["y0"] - exact) <= bound).all()


@pytest.mark.parametrize("features", USABLE)
def test_infinity_and_nan_pass_through(features: str) -> None:
    x = np.ones((1, 32, 4, 6), np.float32)
    x[0, 3, 1, 2], x[0, 5, 2, 4] = np.inf, np.nan
    w = np.ones((32, 32, 1, 1), np.float32)
    ran = check_node("Conv", [x, w], constants=("x1",), blocked=("x0",), features=features, oracle="onnxruntime")
    assert np.isinf(ran.outputs["y0"][0, :, 1, 2]).all() and np.isnan(ran.outputs["y0"][0, :, 2, 4]).all()


# --- products ---------------------------------------------------------------------------------------------------------


@QUICK
@given(
    features=st.sampled_from(USABLE),
    outer=st.lists(st.integers(1, 4), max_size=2),
    rows=st.integers(1, 40),
    steps=st.integers(16, 150),
    columns=st.integers(1, 90),
)
def test_a_product_is_that_of_the_rounded_operands(
    features: str, outer: list[int], rows: int, steps: int, columns: int
) -> None:
    ran = check_node(
        "MatMul",
        [numbers(rows, *outer, rows, steps), numbers(columns, steps, columns)],
        constants=("x1",),
        features=features,
        tol=2e-5,
        oracle=with_rounded_operands,
    )
    assert any("bfloat16" in step for step in ran.steps), ran.steps


@pytest.mark.parametrize("features", USABLE)
@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_scales_and_adds_in_float32(features: str, transposed: int) -> None:
    w = numbers(2, 40, 70) if transposed else numbers(2, 70, 40)
    check_node(
        "Gemm",
        [numbers(1, 9, 70), w, numbers(3, 40)],
        {"transB": transposed, "beta": 0.5},
        constants=("x1", "x2"),
        features=features,
        tol=2e-5,
        oracle=with_rounded_operands,
    )


@pytest.mark.parametrize("features", USABLE)
@pytest.mark.parametrize(("left", "right"), [((3, 5, 33), (3, 33, 18)), ((4, 40), (40,)), ((40,), (40, 3))])
def test_stacks_of_matrices_and_vectors(features: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    check_node(
        "MatMul",
        [numbers(1, *left), numbers(2, *right)],
        constants=("x1",),
        features=features,
        tol=2e-5,
        oracle=with_rounded_operands,
    )


@pytest.mark.parametrize("features", USABLE)
def test_what_gains_nothing_stays_exact(features: str) -> None:
    """Products of two computed operands, few channels: float32."""
    two = check_node("MatMul", [numbers(1, 6, 40), numbers(2, 40, 20)], features=features)
    few = check_node(
        "Conv", [numbers(1, 1, 3, 9, 9), numbers(2, 40, 3, 3, 3)], constants=("x1",), features=features, tol=1e-5
    )
    assert not any("bfloat16" in step for step in (*two.steps, *few.steps))


# --- between layers ---------------------------------------------------------------------------------------------------


def chain(channels: int, *nodes: onnx.NodeProto, **weights: Array) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    return list(nodes), {"x": numbers(7, 2, channels, 9, 14), **weights}


def small(seed: int, *shape: int) -> Array:
    """Weights that keep the size of what they are applied to."""
    return numbers(seed, *shape) / np.float32(np.sqrt(np.prod(shape[1:])))


@pytest.mark.parametrize("features", USABLE)
@pytest.mark.parametrize("middle", [64, 48, 40])
def test_results_stay_bfloat16_from_one_convolution_to_the_next(features: str, middle: int) -> None:
    nodes, inputs = chain(
        64,
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Conv", ["q", "b"], ["r"], pads=[1, 1, 1, 1], group=middle),
        helper.make_node("Sigmoid", ["r"], ["s"]),
        helper.make_node("Conv", ["s", "c"], ["y"]),
        a=small(1, middle, 64, 1, 1),
        b=small(2, middle, 1, 3, 3),
        c=small(3, 64, middle, 1, 1),
    )
    ran = check_nodes(
        nodes,
        inputs,
        ["y"],
        constants=("a", "b", "c"),
        blocked=("x",),
        features=features,
        tol=0.02,
        oracle="onnxruntime",
    )
    target, _ = choose_instructions(features, "bfloat16")
    block = 16 if target.vector_bits >= 512 else 8
    conversions = sum(step == "ToBfloat16" for step in ran.steps)
    assert conversions == (1 if middle % block == 0 else 2), ran.steps


@pytest.mark.parametrize("features", USABLE)
def test_a_residual_is_added_as_bfloat16(features: str) -> None:
    nodes, inputs = chain(
        64,
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("Conv", ["p", "b"], ["q"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["q", "p"], ["r"]),
        helper.make_node("Conv", ["r", "a"], ["y"]),
        a=small(1, 64, 64, 1, 1),
        b=small(2, 64, 64, 3, 3),
    )
    ran = check_nodes(
        nodes, inputs, ["y"], constants=("a", "b"), blocked=("x",), features=features, tol=0.02, oracle="onnxruntime"
    )
    assert sum(step in ("ToBfloat16", "FromBfloat16") for step in ran.steps) == 1, ran.steps


@pytest.mark.parametrize("features", USABLE)
def test_a_result_is_kept_in_both_forms_for_readers_of_both(features: str) -> None:
    nodes, inputs = chain(
        64,
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("Conv", ["p", "b"], ["y"]),
        helper.make_node("MaxPool", ["p"], ["z"], kernel_shape=[2, 2]),
        a=small(1, 64, 64, 1, 1),
        b=small(2, 32, 64, 1, 1),
    )
    check_nodes(
        nodes,
        inputs,
        ["y", "z", "p"],
        constants=("a", "b"),
        blocked=("x",),
        features=features,
        tol=0.02,
        oracle="onnxruntime",
    )


@pytest.mark.parametrize("features", USABLE)
def test_a_wrong_guess_about_a_reader_costs_a_conversion_not_the_result(
    features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_cpu.conv import lower_pairs as bfloat16
    from mace_cpu.shared.parts.buffers import Layout

    monkeypatch.setattr(bfloat16, "_form_read", lambda program, node, value: Layout.PAIRS)
    nodes, inputs = chain(
        64,
        helper.make_node("Conv", ["x", "a"], ["p"]),
        helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2]),
        a=small(1, 48 if "host" in features else 40, 64, 1, 1),
    )
    ran = check_nodes(
        nodes, inputs, ["y"], constants=("a",), blocked=("x",), features=features, tol=0.02, oracle="onnxruntime"
    )
    assert "FromBfloat16" in ran.steps


# --- the option -------------------------------------------------------------------------------------------------------


def test_a_processor_without_a_unit_is_an_error_that_names_what_is_missing() -> None:
    with pytest.raises(UsageError, match=r"needs AMX \(amx_tile and amx_bf16.*or AVX512-BF16 \(avx512_bf16\).*float32"):
        choose_instructions("baseline", "bfloat16")


def test_a_unit_that_is_asked_for_and_missing_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"needs AVX512-BF16 \(avx512_bf16\); .*'avx2', has not"):
        choose_instructions("avx2+bf16-avx512", "bfloat16")
    with pytest.raises(UsageError, match=r"needs 512-bit vectors"):
        choose_instructions("baseline+bf16-amx-emulated", "bfloat16")


def test_the_best_unit_there_is_is_taken() -> None:
    present = [unit for unit in best_units(host_target()) if unit.is_in(host_target())]
    if not present:
        with pytest.raises(UsageError, match=r"has (neither|not)"):
            choose_instructions(None, "bfloat16")
        return
    assert choose_instructions(None, "bfloat16") == (host_target(), present[0])


def test_emulation_is_never_taken_unasked() -> None:
    assert choose_instructions(None, "float32") == (host_target(), None)
    assert choose_instructions("host", "float32")[1] is None
    for features in (None, "host", "baseline"):
        try:
            unit = choose_instructions(features, "bfloat16")[1]
        except UsageError:
            continue
        assert unit in best_units(host_target())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float8"}, "'precision' is one of float32, bfloat16, float16, not 'float8'"),
        ({"precision": 16}, "'precision' takes float32, float16 or bfloat16, not 16"),
        ({"features": "host+bf16-quantum", "precision": "bfloat16"}, r"ends in '\+bf16-quantum', which is none of"),
        ({"features": "host+bf16-emulated"}, "matters with precision bfloat16 only"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str) -> None:
    provider = CpuProvider()
    (device,) = provider.probe().devices
    with pytest.raises(UsageError, match=message):
        provider.open(device, options)
