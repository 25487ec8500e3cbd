"""Precision float16: the law of its errors, what stays exact, layouts between layers, the option and its errors.

Kernels for aarch64 run on an emulated processor.  Everything around the products is checked with the unit that computes
the same with ordinary instructions, too.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from harness import Ran, ask_onnxruntime, check_node, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.provider import CpuProvider
from mace_cpu.shared.layouts.pairs import columns_apart, pair_weights
from mace_cpu.shared.precision import HALF_STEPS, PairUnit, choose_instructions, unit_of
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.native.named_targets import named_target
from mace_core.native.target import foreign_target

Array = np.ndarray[Any, Any]

UNIT_ROUNDOFF = 2.0**-11
"""Largest relative error of rounding to 11 bits, one of them implied."""

SMALLEST = 2.0**-24
"""Of float16, above 0."""

FEW = settings(max_examples=8)

MASKS = {"fp16-blocks": "fp16", "fp16-fml": "fp16fml"}
EXACT = ["fp16-fml", "fp16-emulated"]
UNITS = [*MASKS, "fp16-emulated"]


@contextmanager
def running(unit: str) -> Iterator[str]:
    """The option ``features`` for a unit; inside, plans run on its emulated processor, if it has one."""
    if unit not in MASKS:
        yield f"host+{unit}"
        return
    if platform.machine() == "aarch64":
        try:
            choose_instructions(f"host+{unit}", "float16")
        except UsageError as error:
            pytest.skip(str(error))
        yield f"host+{unit}"
        return
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the emulated processor is for x86-64 hosts")
    arm = pytest.importorskip("arm", reason="needs unicorn", exc_type=ImportError)
    with arm.emulated(MASKS[unit]) as features:
        yield f"{features}+{unit}"


def check(unit: str, nodes: list[onnx.NodeProto], inputs: Mapping[str, Array], outputs: list[str], **how: Any) -> Ran:
    """`check_nodes` with precision float16."""
    with running(unit) as features:
        return check_nodes(nodes, inputs, outputs, features=features, **how)


def check_one(
    unit: str, op: str, operands: list[Array], attributes: Mapping[str, Any] | None = None, **how: Any
) -> Ran:
    """`check_node` of a constant second and third operand with precision float16."""
    constants = [f"x{number}" for number in range(1, len(operands))]
    with running(unit) as features:
        return check_node(op, operands, attributes or {}, constants=constants, features=features, **how)


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def nearest(values: Array) -> Array:
    """``values`` rounded to float16, as float32."""
    return values.astype(np.float16).astype(np.float32)


def with_rounded_operands(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """onnxruntime's results for the rounded input ``x0`` and weights ``x1`` (not the bias)."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == "x1":
            tensor.CopyFrom(numpy_helper.from_array(nearest(numpy_helper.to_array(tensor)), "x1"))
    return ask_onnxruntime(changed, {**feeds, "x0": nearest(feeds["x0"])})


def product(unit: str, left: Array, right: Array) -> Array:
    """What the kernels make of ``left @ right``."""
    expected = (nearest(left).astype(np.float64) @ nearest(right).astype(np.float64)).astype(np.float32)
    ran = check_one(unit, "MatMul", [left, right], expected=[expected], tol=1.0)
    return ran.outputs["y0"]


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_operands_are_rounded_to_the_nearest_and_of_two_to_the_even_one(unit: str) -> None:
    """Products with the identity are the rounded numbers: halfway cases, subnormal ones, the ends of the range."""
    halves = np.arange(0, 0x7C00, 257, dtype=np.uint16).view(np.float16).astype(np.float32)
    after = np.nextafter(halves.astype(np.float16), np.float16(np.inf)).astype(np.float32)
    halfway = ((halves.astype(np.float64) + after) / 2).astype(np.float32)
    given = np.concatenate([halves, halfway, np.nextafter(halfway, np.float32(0)), -halfway, numbers(1, 16)])
    given = given[np.isfinite(nearest(given))]
    given = np.resize(given, (len(given) // 16, 16))
    np.testing.assert_array_equal(product(unit, given, np.eye(16, dtype=np.float32)), nearest(given))


@FEW
@given(
    unit=st.sampled_from(UNITS),
    sizes=st.tuples(st.integers(1, 9), st.integers(16, 300), st.integers(1, 40)),
    scale=st.sampled_from((1e-6, 1e-3, 1.0, 30.0)),
    same_sign=st.booleans(),
)
def test_the_error_of_a_product_is_within_the_law(
    unit: str, sizes: tuple[int, int, int], scale: float, same_sign: bool
) -> None:
    """Against float64: see docs/decisions/float16.md.

    Sums of one sign are where errors add up, and cancelling ones where they show.
    """
    rows, steps, columns = sizes
    left, right = numbers(1, rows, steps) * np.float32(scale), numbers(2, steps, columns)
    if same_sign:
        left, right = np.abs(left), np.abs(right)
    found = product(unit, left, right).astype(np.float64)
    exact = left.astype(np.float64) @ right.astype(np.float64)
    sizes_summed = np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)
    u, summed_in_half = UNIT_ROUNDOFF, HALF_STEPS if unit == "fp16-blocks" else 0
    share = 2 * u + u * u + summed_in_half * u / (1 - summed_in_half * u) * (1 + u) ** 2 + (steps + 2) * 2.0**-24
    # what is lost below the smallest numbers, of operands and of products that are rounded
    lost = SMALLEST / 2 * (np.abs(left).sum(1)[:, None] + np.abs(right).sum(0)[None] + steps + 1)
    assert (np.abs(found - exact) <= share * sizes_summed + lost).all()


def test_sums_of_float16_lose_no_more_than_their_few_steps() -> None:
    """Ones: 4096 of them are 2048 in float16, which cannot count beyond."""
    ones = np.ones((1, 4096), np.float32)
    for unit in MASKS:
        assert product(unit, ones, np.ones((4096, 8), np.float32)).tolist() == [[4096.0] * 8]


def test_sums_of_float32_reach_beyond_float16() -> None:
    left, right = np.full((1, 32), 250.0, np.float32), np.full((32, 8), 250.0, np.float32)
    assert product("fp16-fml", left, right).tolist() == [[2_000_000.0] * 8]
    ran = check_one(
        "fp16-blocks",
        "MatMul",
        [left, right],
        expected=[np.full((1, 8), np.inf, np.float32)],
    )
    assert any(symbol.startswith("gemm_fp16_blocks") for symbol in ran.kernels)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes"),
    [
        ((1, 32, 7, 9), 40, (1, 1), {}),
        ((2, 40, 9, 8), 24, (3, 3), {"pads": [1, 1, 1, 1], "strides": [1, 2]}),
        ((1, 64, 9, 7), 32, (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2], "group": 2}),
        ((1, 23, 11, 6), 17, (5, 1), {"pads": [1, 0, 2, 0], "dilations": [2, 1]}),
        ((1, 16, 1, 1), 100, (1, 1), {}),
    ],
)
def test_a_convolution_is_that_of_the_rounded_operands(
    unit: str,
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    attributes: dict[str, Any],
) -> None:
    group = attributes.get("group", 1)
    operands = [numbers(1, *shape), numbers(2, out, shape[1] // group, *kernel), numbers(3, out)]
    ran = check_one(
        unit,
        "Conv",
        operands,
        attributes,
        tol=2e-5 if unit in EXACT else 2e-3,
        oracle=with_rounded_operands,
    )
    assert any(symbol.startswith(f"conv_{unit.replace('-', '_')}") for symbol in ran.kernels), ran.kernels


@pytest.mark.full
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution_is_that_of_the_rounded_operands(data: st.DataObject) -> None:
    draw = data.draw
    unit = draw(st.sampled_from(list(MASKS)))
    group = draw(st.sampled_from((1, 1, 2)))
    in_channels = draw(st.integers(16, 50)) if group == 1 else 32
    out = group * (draw(st.integers(16, 50)) if group == 1 else draw(st.sampled_from((16, 24, 40))))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    strides, dilations = (draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) for _ in range(2))
    pads = [draw(st.integers(0, size)) for size in (*kernel, *kernel)]
    spans = [(taps - 1) * apart + 1 for taps, apart in zip(kernel, dilations, strict=True)]
    image = [draw(st.integers(max(span - pads[i] - pads[i + 2], 1), 24)) for i, span in enumerate(spans)]
    shape = (draw(st.integers(1, 2)), group * in_channels, *image)
    operands = [numbers(1, *shape), numbers(2, out, in_channels, *kernel), numbers(3, out)]
    attributes = {"group": group, "pads": pads, "strides": strides, "dilations": dilations}
    tolerance = 2e-5 if unit in EXACT else 2e-3
    check_one(unit, "Conv", operands, attributes, tol=tolerance, oracle=with_rounded_operands)


def test_where_winograds_method_is_cheaper_results_are_those_of_float32() -> None:
    operands = [numbers(1, 1, 64, 12, 12), numbers(2, 64, 64, 3, 3) / 24]
    attributes = {"pads": [1, 1, 1, 1]}
    ran = check_one("fp16-fml", "Conv", operands, attributes, oracle="onnxruntime", tol=2e-5)
    assert any(symbol.startswith("conv_winograd") for symbol in ran.kernels), ran.kernels


@pytest.mark.parametrize("unit", UNITS)
def test_a_gemm_scales_and_adds_in_float32(unit: str) -> None:
    operands = [numbers(1, 5, 40), numbers(2, 29, 40), numbers(3, 29)]
    check_one(
        unit,
        "Gemm",
        operands,
        {"transB": 1, "alpha": 0.5, "beta": 3.0},
        tol=2e-5 if unit in EXACT else 2e-3,
        oracle=with_rounded_operands,
    )


# --- between layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_results_stay_float16_from_one_convolution_to_the_next(unit: str) -> None:
    """1x1, depthwise, 1x1, a residual: values are stored once, in float16, and widened by the depthwise one."""
    w = {
        "w1": numbers(1, 64, 32, 1, 1) / 6,
        "w2": numbers(2, 64, 1, 3, 3) / 3,
        "w3": numbers(3, 32, 64, 1, 1) / 8,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=64, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    ran = check(
        unit,
        nodes,
        {"x": numbers(4, 1, 32, 6, 7), **w},
        ["y"],
        constants=list(w),
        oracle="onnxruntime",
        tol=4e-3,
    )
    assert [step for step in ran.steps if "Float16" in step] == ["ToFloat16"], ran.steps
    assert any(symbol.startswith("depthwise_p") for symbol in ran.kernels), ran.kernels


@pytest.mark.parametrize("unit", MASKS)
@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"pads": [1, 1, 1, 1]}),
        ((5, 5), {"pads": [2, 2, 2, 2], "strides": [2, 2]}),
        ((2, 7), {"pads": [0, 3, 1, 3], "dilations": [2, 1]}),
        ((3, 17), {"pads": [1, 8, 1, 8]}),
    ],
)
def test_a_depthwise_convolution_between_others_is_within_the_law(
    unit: str, kernel: tuple[int, int], attributes: dict[str, Any]
) -> None:
    """Through identities before and behind it, so that it reads and stores float16; all is positive, so errors add."""
    x, w = np.abs(numbers(1, 1, 16, 9, 20)) + 1, np.abs(numbers(2, 16, 1, *kernel)) + 1
    one = np.eye(16, dtype=np.float32).reshape(16, 16, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"], group=16, **attributes),
        helper.make_node("Conv", ["b", "one"], ["y"]),
    ]
    taps = kernel[0] * kernel[1]
    u, summed = UNIT_ROUNDOFF, (min(HALF_STEPS, taps) if unit == "fp16-blocks" and kernel[1] <= HALF_STEPS else 0)
    ran = check(
        unit,
        nodes,
        {"x": x, "w": w, "one": one},
        ["y"],
        constants=["w", "one"],
        oracle="onnxruntime",
        tol=(3 + summed) * u * 1.01,
    )
    depthwise = [symbol for symbol in ran.kernels if symbol.startswith("depthwise")]
    assert depthwise and all(symbol.startswith("depthwise_p8_fp16") for symbol in depthwise), ran.kernels


def test_weights_lie_as_lanes_meet_them() -> None:
    words = pair_weights(np.arange(32, dtype=np.float32).reshape(2, 16), 0, PairUnit.HALF)
    apart = columns_apart(words).view(np.float16).reshape(2, 2, 8)
    np.testing.assert_array_equal(apart[0], [np.arange(8), np.arange(16, 24)])
    np.testing.assert_array_equal(apart[1], [np.arange(8, 16), np.arange(24, 32)])


# --- models whose tensors are float16 ---------------------------------------------------------------------------------


def half_model() -> onnx.ModelProto:
    """Convolutions, a residual that is an output too, a pooling, a product, and a result as float32."""
    generator = np.random.default_rng(5)

    def weights(*shape: int) -> Array:
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float16)

    constants = {"w1": weights(32, 16, 1, 1), "w2": weights(32, 1, 3, 3), "w3": weights(16, 32, 1, 1)}
    constants |= {"b3": weights(16), "w4": weights(16, 10), "low": np.float16(0), "high": np.float16(6)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=32, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3", "b3"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["p"]),
        helper.make_node("Flatten", ["p"], ["q"]),
        helper.make_node("MatMul", ["q", "w4"], ["y"]),
        helper.make_node("Cast", ["y"], ["wide"], to=onnx.TensorProto.FLOAT),
    ]
    kind = onnx.TensorProto.FLOAT16
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("x", kind, [1, 16, 7, 7])],
        [helper.make_tensor_value_info(name, kind, None) for name in ("sum", "y")]
        + [helper.make_tensor_value_info("wide", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("unit", UNITS)
def test_a_session_runs_a_model_of_float16(unit: str, tmp_path: Path) -> None:
    """Operators fuse as those of float32 do, and nothing is cast but at the ends; results have their types."""
    path = tmp_path / "halves.onnx"
    onnx.save(half_model(), path)
    x = numbers(6, 1, 16, 7, 7).astype(np.float16)
    expected = dict(zip(("sum", "y", "wide"), ask_onnxruntime(onnx.load(path), {"x": x}), strict=True))
    with running(unit) as features:
        options = {"cpu": {"threads": 1, "precision": "float16", "features": features}}
        with Session(str(path), devices=["cpu"], options=options, strict=True) as session:
            found = session.run({"x": x})
            notes = [node.note for node in session.explain().nodes if node.op in ("Conv", "MatMul")]
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        tolerance = 8 * UNIT_ROUNDOFF * float(np.abs(array).max())
        np.testing.assert_allclose(found[name].astype(np.float32), array.astype(np.float32), rtol=0, atol=tolerance)
    told = f"float16 {unit.removeprefix('fp16-')}"
    assert notes == [told, told if unit in MASKS else "float32: depthwise", told, told]


# --- the option -------------------------------------------------------------------------------------------------------


def test_the_exact_unit_comes_first() -> None:
    both = foreign_target("aarch64", features=("fullfp16", "fp16fml"))
    assert unit_of(both, "both", "float16") is PairUnit.LONG_HALF
    assert unit_of(foreign_target("aarch64", features=("fullfp16",)), "one", "float16") is PairUnit.HALF
    assert unit_of(both, "both", "float32") is None


def test_libraries_for_processors_with_float16_may_use_it() -> None:
    target = named_target("arm64-v8.2a").target
    assert unit_of(target, "arm64-v8.2a", "float16") is PairUnit.HALF
    with pytest.raises(UsageError, match=r"float16, which needs fmlal .* the target 'arm64-v8a' has neither; leave"):
        unit_of(named_target("arm64-v8a").target, "arm64-v8a", "float16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16", "features": "host+fp16-quantum"}, r"ends in '\+fp16-quantum', which is none of"),
        ({"features": "host+fp16-emulated"}, "matters with precision float16 only"),
        ({"features": "host+fp16-emulated", "precision": "bfloat16"}, "matters with precision float16 only"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str) -> None:
    provider = CpuProvider()
    (device,) = provider.probe().devices
    with pytest.raises(UsageError, match=message):
        provider.open(device, options)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a processor without float16")
def test_a_processor_without_a_unit_is_an_error_that_names_what_is_missing() -> None:
    with pytest.raises(UsageError, match=r"float16, which needs fmlal \(asimdfhm\) or arithmetic in float16 .*neither"):
        choose_instructions(None, "float16")
