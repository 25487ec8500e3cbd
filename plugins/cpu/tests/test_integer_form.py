"""Graphs that quantize and dequantize around operators of floats are computed in integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness import here
from onnx import TensorProto, helper
from quantized_graphs import RNG, Quantizing, check, run

DTYPES = ["uint8", "int8"]


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(np.int8)


def scales(count: int) -> np.ndarray:
    return (RNG.random(count) / 200 + 0.002).astype(np.float32)


def limited(features: str) -> dict[str, str]:
    """The option for an instruction set."""
    return {} if features == "host" else {"features": features}


# --- convolutions and products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", ["none", "int32", "float"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(dtype: str, bias: str, per_channel: bool, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    scale = scales(8) if per_channel else np.float32(0.004)
    x = g.input(1, 5, 9, 7, scale=0.03)
    inputs = [x, g.weight(weights(8, 5, 3, 3), scale, 0 if per_channel else None)]
    if bias == "int32":
        steps = np.broadcast_to(np.float32(0.03) * scale, (8,)) if per_channel else np.float32(0.03) * scale
        inputs.append(g.weight(RNG.integers(-900, 900, 8).astype(np.int32), steps, 0 if per_channel else None))
    elif bias == "float":
        inputs.append(g.constant(RNG.standard_normal(8).astype(np.float32)))
    g.steps(g.op("Conv", *inputs, pads=[1, 1, 1, 1], strides=[2, 1]), 0.4)
    found = check(g, tmp_path)
    if bias != "float":
        assert "QLinearConv" in found.steps


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_bounds_a_convolution_bounds_its_steps(dtype: str, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    x, w = g.input(1, 4, 6, 6), g.weight(weights(8, 4, 1, 1), scales(8), 0)
    g.steps(g.op("Relu", g.op("Conv", x, w)), 0.05, np.iinfo(dtype).min)  # the type bounds it already
    low, high = g.constant(np.float32(0)), g.constant(np.float32(6))
    g.steps(g.op("Clip", g.op("Conv", x, w), low, high), 6 / 255, np.iinfo(dtype).min)
    assert check(g, tmp_path).in_float == {}


def test_weights_in_float_behind_a_quantization(tmp_path: Path) -> None:
    g = Quantizing()
    x, scale = g.input(1, 4, 6, 6), g.constant(scales(8))
    zero = g.constant(np.zeros(8, np.int8))
    real = g.constant(RNG.standard_normal((8, 4, 3, 3)).astype(np.float32) / 5)
    w = g.op("DequantizeLinear", g.op("QuantizeLinear", real, scale, zero, axis=0), scale, zero, axis=0)
    g.steps(g.op("Conv", x, w), 0.1)
    assert "QLinearConv" in check(g, tmp_path).steps


@pytest.mark.parametrize("shape", [(6, 12), (3, 6, 12), (2, 3, 6, 12)])
def test_product_with_weights(shape: tuple[int, ...], tmp_path: Path) -> None:
    g = Quantizing()
    g.steps(g.op("MatMul", g.input(*shape), g.weight(weights(12, 10), scales(10), 1)), 0.3)
    assert check(g, tmp_path).in_float == {}


def test_product_of_activations(tmp_path: Path) -> None:
    g = Quantizing()
    turned = g.op("Transpose", g.input(2, 3, 8, 5), perm=[0, 1, 3, 2])
    g.steps(g.op("MatMul", g.input(2, 3, 6, 5, dtype="int8"), turned), 0.3)
    assert check(g, tmp_path).in_float == {}


# --- pairs ------------------------------------------------------------------------------------------------------------


SHAPES = [
    ((2, 3, 5, 4), (2, 3, 5, 4)),
    ((1, 8, 3, 3), (1, 8, 1, 1)),
    ((4, 1, 6), (5, 1)),
    ((3, 5, 70), (5, 70)),
    ((7,), (1,)),
    ((2, 0), (2, 0)),
]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("features", here("host", "avx512", "avx2", "dotprod", "baseline"))
def test_pairs(op: str, first: tuple[int, ...], second: tuple[int, ...], features: str, tmp_path: Path) -> None:
    g = Quantizing()
    a, b = g.input(*first, scale=0.02), g.input(*second, dtype="int8", scale=0.05, zero=-128)
    if op == "Div":  # away from dividing by nothing
        g.feeds["in1"] = np.abs(g.feeds["in1"].astype(np.int16)).clip(5, 127).astype(np.int8)
    g.steps(g.op(op, a, b), 0.06)
    assert check(g, tmp_path, **limited(features)).in_float == {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_and_itself(dtype: str, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    x = g.input(3, 40)
    g.steps(g.op("Add", x, x))
    g.steps(g.op("Mul", x, x), 0.3)
    assert check(g, tmp_path).in_float == {}


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("features", here("host", "avx512", "avx2", "dotprod", "baseline"))
def test_interpolation(mode: str, features: str, tmp_path: Path) -> None:
    g = Quantizing()
    factors = g.constant(np.array([1, 1, 2, 1.5], np.float32))
    for channels, dtype in ((20, "uint8"), (3, "int8"), (70, "uint8")):
        x = g.input(2, channels, 9, 7, dtype=dtype, scale=0.03)
        for coordinates in ("half_pixel", "asymmetric", "half_pixel_symmetric"):
            g.steps(g.op("Resize", x, "", factors, mode=mode, coordinate_transformation_mode=coordinates), 0.03)
    if mode == "linear":  # onnxruntime has no other in one axis
        sizes = g.constant(np.array([2, 5, 17], np.int64))
        g.steps(g.op("Relu", g.op("Resize", g.input(2, 5, 11), "", "", sizes, mode=mode)), 0.04)
    sizes = g.constant(np.array([1, 5, 6, 4], np.int64))
    g.steps(g.op("Resize", g.input(1, 5, 11, 4), "", "", sizes, mode=mode), 0.04)  # one axis stays
    found = check(g, tmp_path, **limited(features))
    assert found.in_float == {}
    assert "Resize" not in found.steps


def test_interpolation_that_stays_in_float(tmp_path: Path) -> None:
    g = Quantizing()
    sizes = g.constant(np.array([1, 5, 4, 4], np.int64))
    x = g.input(1, 5, 19, 17)
    g.steps(g.op("Resize", x, "", "", sizes, mode="linear", antialias=1))  # many taps
    region = g.constant(np.array([0, 0, 0.2, 0.2, 1, 1, 0.8, 1.2], np.float32))
    cut = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    g.steps(g.op("Resize", x, region, "", sizes, **cut))
    assert len(check(g, tmp_path).in_float) == 2


def test_a_vector_of_a_quantized_constant_is_added(tmp_path: Path) -> None:
    g = Quantizing()
    g.steps(g.op("Add", g.input(4, 6, 10), g.weight(weights(10), np.float32(0.03))))
    assert check(g, tmp_path).in_float == {}


# --- tables -----------------------------------------------------------------------------------------------------------

UNARY: dict[str, dict[str, object]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "HardSigmoid": {"alpha": 0.25}, "HardSwish": {}, "Elu": {"alpha": 0.7},
    "LeakyRelu": {"alpha": 0.1}, "Gelu": {}, "Erf": {}, "Exp": {}, "Abs": {}, "Neg": {}, "Softplus": {}, "Mish": {},
    "Floor": {}, "Sin": {},
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_one_number(dtype: str, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    x = g.input(3, 300)
    for op, attributes in UNARY.items():
        g.steps(g.op(op, x, **attributes))
    found = check(g, tmp_path)
    assert found.in_float == {}
    assert not found.steps & set(UNARY)
    assert "Table" in found.steps


def silu(g: Quantizing, x: str) -> str:
    return g.op("Mul", x, g.op("Sigmoid", x))


def silu_in_steps(g: Quantizing, x: str) -> str:
    return g.op("Mul", x, g.again(g.op("Sigmoid", x), 1 / 255, 0))


def hard_swish_in_parts(g: Quantizing, x: str) -> str:
    three, six = g.constant(np.float32(3)), g.constant(np.array([6], np.float32))
    clipped = g.op("Clip", g.op("Add", x, three), g.constant(np.float32(0)), g.constant(np.float32(6)))
    return g.op("Div", g.op("Mul", x, clipped), six)


def affine(g: Quantizing, x: str) -> str:
    scaled = g.again(g.op("Mul", g.weight(np.array([100], np.uint8), np.float32(0.01)), x))
    return g.op("Add", scaled, g.weight(np.array(7, np.uint8), np.float32(0.1)))


@pytest.mark.parametrize("chain", [silu, silu_in_steps, hard_swish_in_parts, affine])
def test_chains_and_diamonds_of_one_number(chain: Callable[[Quantizing, str], str], tmp_path: Path) -> None:
    g = Quantizing()
    g.steps(chain(g, g.input(2, 4, 5, 5)), 0.06)
    found = check(g, tmp_path)
    assert found.in_float == {}
    assert any("Table" in step for step in found.steps)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_a_bound_that_is_quantized_is_part_of_the_convolution(op: str, tmp_path: Path) -> None:
    """As TensorFlow Lite writes it: a number with the encoding of the values."""
    g = Quantizing("int8")
    x = g.input(1, 4, 6, 6)
    convolved = g.again(g.op("Conv", x, g.weight(weights(8, 4, 1, 1), scales(8), 0)), 0.05, 0)
    g.steps(g.op(op, convolved, g.weight(np.int8(20), np.float32(0.05))), 0.05, 0)
    found = check(g, tmp_path)
    assert found.in_float == {} and op not in found.steps


def test_other_encodings_back_to_back(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(2, 50)
    g.steps(g.op("Identity", g.again(g.again(x))))  # the same encoding each time: nothing
    g.steps(x, 0.1, 30)
    g.steps(x, 0.02, -5, dtype="int8")
    assert check(g, tmp_path, within=0).in_float == {}


# --- moves ------------------------------------------------------------------------------------------------------------


def test_moves_move_bytes(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(2, 8, 6, 4)
    shape = g.constant(np.array([2, 8, 24], np.int64))
    one, two, axis = (g.constant(np.array([n], np.int64)) for n in (1, 3, 1))
    g.again(g.op("Transpose", g.op("Reshape", x, shape), perm=[0, 2, 1]))
    g.again(g.op("Slice", x, one, two, axis))
    g.again(g.op("Flatten", x))
    g.again(g.op("DepthToSpace", x, blocksize=2))
    g.again(g.op("Gather", x, g.constant(np.array([3, 0], np.int64)), axis=1))
    g.again(g.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]))
    g.again(g.op("Pad", x, g.constant(np.array([0, 0, 1, 0, 0, 0, 0, 2], np.int64))))
    g.again(g.op("Concat", x, g.op("Reshape", x, g.constant(np.array([2, 8, 6, 4], np.int64))), axis=1))
    g.again(g.op("Expand", g.op("Slice", x, one, two, axis), g.constant(np.array([2, 2, 6, 4], np.int64))))
    found = check(g, tmp_path, within=0)
    assert found.in_float == {}
    assert not found.steps & {"QuantizeLinear", "DequantizeLinear"}


def test_padding_that_is_no_step_stays_in_float(tmp_path: Path) -> None:
    g = Quantizing()
    pads = g.constant(np.array([0, 1, 0, 1], np.int64))
    g.steps(g.op("Pad", g.input(3, 4), pads, g.constant(np.float32(0.033))))
    reasons = check(g, tmp_path, within=0).in_float
    assert "no step of its input" in "".join(reasons.values())


def test_a_move_before_the_quantization(tmp_path: Path) -> None:
    g = Quantizing()
    y = g.op("Conv", g.input(1, 4, 6, 6), g.weight(weights(8, 4, 3, 3), scales(8), 0))
    g.steps(g.op("Transpose", g.op("MaxPool", y, kernel_shape=[2, 2]), perm=[0, 2, 3, 1]), 0.1)
    assert check(g, tmp_path).in_float == {}


def test_concatenation_of_other_encodings(tmp_path: Path) -> None:
    g = Quantizing()
    parts = [g.input(1, 3, 4, 4, scale=0.02), g.input(1, 2, 4, 4, scale=0.05), g.input(1, 5, 4, 4, scale=0.01)]
    g.steps(g.op("Concat", *parts, axis=1))
    assert check(g, tmp_path).in_float == {}


# --- means ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_means(dtype: str, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    x = g.input(2, 12, 7, 9)
    g.steps(g.op("GlobalAveragePool", x), 0.01)
    g.steps(g.op("AveragePool", x, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]), 0.03)
    g.steps(g.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1), 0.03)
    g.steps(g.op("ReduceMean", x, g.constant(np.array([-1, -2], np.int64))), 0.01)
    g.steps(g.op("ReduceMean", x, g.constant(np.array([1], np.int64)), keepdims=0), 0.02)
    g.steps(g.op("Softmax", x, axis=1), 1 / 255, np.iinfo(dtype).min)
    g.steps(g.op("Softmax", x, axis=-1), 1 / 255, np.iinfo(dtype).min)
    found = check(g, tmp_path)
    assert found.in_float == {}


# --- what is around ---------------------------------------------------------------------------------------------------


def test_a_value_that_is_read_in_float_and_in_steps(tmp_path: Path) -> None:
    g = Quantizing()
    largest = g.again(g.op("MaxPool", g.input(4, 30, 9), kernel_shape=[3]))
    normal = g.op("LayerNormalization", largest, g.constant(np.ones(7, np.float32)))
    g.steps(normal, 0.03)
    g.steps(g.op("Sigmoid", largest), 1 / 255, 0)
    found = check(g, tmp_path, floats=[largest, normal])
    assert "LayerNormalization has no form in integers" in "".join(found.in_float.values())
    assert len(found.in_float) == 1


def test_a_float_result_that_is_wanted_too(tmp_path: Path) -> None:
    g = Quantizing()
    y = g.op("Conv", g.input(1, 4, 6, 6), g.weight(weights(8, 4, 3, 3), scales(8), 0))
    g.steps(y, 0.1)
    found = check(g, tmp_path, floats=[y])
    assert found.in_float == {}
    assert "QLinearConv" in found.steps


def test_each_branch_quantizes_the_same(tmp_path: Path) -> None:
    g = Quantizing()
    y = g.op("Conv", g.input(1, 4, 6, 6), g.weight(weights(8, 4, 3, 3), scales(8), 0))
    first, second, third = g.again(y, 0.1), g.again(y, 0.1), g.again(y, 0.2)
    for real in (first, second, third):
        g.steps(g.op("Relu", real), 0.1)
    assert check(g, tmp_path).in_float == {}


def test_encodings_that_are_not_constant_stay(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(2, 9)
    g.feeds["scale"] = np.array(0.04, np.float32)
    y = g.op("QuantizeLinear", g.op("Relu", x), "scale", g.constant(np.array(0, np.uint8)))
    g.outputs.append(y)
    check(g, tmp_path, within=0)


def test_weights_of_sixteen_bits_stay_in_float(tmp_path: Path) -> None:
    g = Quantizing("uint16")
    x = g.input(1, 4, 5, 5, scale=0.001)
    g.steps(g.op("Conv", x, g.weight(weights(3, 4, 3, 3).astype(np.int16), scales(3), 0)), 0.02)
    g.steps(g.op("Transpose", x, perm=[0, 2, 3, 1]), 0.001)
    found = check(g, tmp_path)
    assert "not of 8 bits" in "".join(found.in_float.values())


def test_the_option_switches_it_off(tmp_path: Path) -> None:
    g = Quantizing()
    g.steps(g.op("Add", g.input(4, 30), g.input(4, 30)), 0.1)
    assert not any("QLinear" in step for step in run(g.model(), g.feeds, tmp_path, integers=False).steps)
    assert any("QLinear" in step for step in run(g.model(), g.feeds, tmp_path).steps)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_files_with_operators_of_quantized_numbers(op: str, tmp_path: Path) -> None:
    g = Quantizing()
    for name in ("a", "b"):
        g.feeds[name] = RNG.integers(0, 256, (3, 50)).astype(np.uint8)
    half, zero = g.constant(np.float32(0.05)), g.constant(np.array(99, np.uint8))
    g.outputs.append(g.op(op, "a", half, zero, "b", half, zero, half, zero, domain="com.microsoft"))
    found = check(g, tmp_path)
    assert found.in_float == {}
    assert not found.steps & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [5, 64, 100])
@pytest.mark.parametrize("features", here("host", "avx512", "avx2", "sse4", "dotprod", "baseline"))
def test_pools_behind_a_convolution(dtype: str, channels: int, features: str, tmp_path: Path) -> None:
    """What a convolution writes has its channels last."""
    g = Quantizing(dtype)
    y = g.again(g.op("Conv", g.input(2, 4, 9, 8), g.weight(weights(channels, 4, 1, 1), scales(channels), 0)), 0.05)
    pooled = {
        "MaxPool": {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "dilations": [2, 1]},
        "AveragePool": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    }
    for op, attributes in pooled.items():
        g.steps(g.op(op, y, **attributes))
    g.steps(g.op("AveragePool", y, **pooled["AveragePool"], count_include_pad=1), 0.03)
    g.steps(g.op("GlobalAveragePool", y), 0.02)
    assert check(g, tmp_path, **limited(features)).in_float == {}


@pytest.mark.parametrize("bias", ["none", "int32", "float"])
@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("per_column", [False, True])
def test_general_product(bias: str, turned: int, per_column: bool, tmp_path: Path) -> None:
    g = Quantizing()
    scale = scales(10) if per_column else np.float32(0.004)
    axis = (0 if turned else 1) if per_column else None
    inputs = [g.input(6, 12), g.weight(weights(*((10, 12) if turned else (12, 10))), scale, axis)]
    if bias == "int32":
        steps = np.float32(0.05) * scale
        inputs.append(g.weight(RNG.integers(-900, 900, 10).astype(np.int32), steps, 0 if per_column else None))
    elif bias == "float":
        inputs.append(g.constant(RNG.standard_normal(10).astype(np.float32)))
    g.steps(g.op("Relu", g.op("Gemm", *inputs, transB=turned)), 0.3)
    assert check(g, tmp_path).in_float == {}


@pytest.mark.parametrize("quantized", [False, True])
def test_product_with_a_bias_behind_it(quantized: bool, tmp_path: Path) -> None:
    g = Quantizing()
    bias = RNG.standard_normal(10).astype(np.float32)
    added = g.weight((bias * 50).astype(np.int8), np.float32(0.02)) if quantized else g.constant(bias)
    product = g.op("MatMul", g.input(3, 6, 12), g.weight(weights(12, 10), scales(10), 1))
    g.steps(g.op("Add", added, product), 0.3)
    assert check(g, tmp_path).in_float == {}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("features", here("host", "avx512", "avx2", "dotprod", "baseline"))
def test_softmax(dtype: str, features: str, tmp_path: Path) -> None:
    g = Quantizing(dtype)
    for length, scale in ((3, 0.1), (16, 0.02), (77, 0.05), (128, 2.0), (1024, 0.01), (1030, 0.01)):
        g.steps(g.op("Softmax", g.input(5, length, scale=scale), axis=-1), 1 / 255, np.iinfo(dtype).min)
    g.steps(g.op("Softmax", g.input(2, 9, 4), axis=1), 1 / 255, np.iinfo(dtype).min)
    assert check(g, tmp_path, **limited(features)).in_float == {}


def test_a_branch_reads_quantized_values_from_outside(tmp_path: Path) -> None:
    g = Quantizing()
    x = g.input(3, 20)
    first = g.steps(g.op("Relu", x), 0.05)
    encoding = g.nodes[-1].input[1:]
    second = g.op("QuantizeLinear", g.op("Relu", x), *encoding)  # the same numbers under another name
    bodies = []
    for name, read in (("then", first), ("else", second)):
        nodes = [helper.make_node("Identity", [read], [f"{name} result"], name=name)]
        result = helper.make_tensor_value_info(f"{name} result", TensorProto.UINT8, [3, 20])
        bodies.append(helper.make_graph(nodes, name, [], [result]))
    g.outputs.append(g.op("If", "condition", then_branch=bodies[0], else_branch=bodies[1]))
    for condition in (True, False):
        g.feeds["condition"] = np.array(condition)
        check(g, tmp_path)


def test_numbers_of_both_types_meet(tmp_path: Path) -> None:
    g = Quantizing("uint8")
    a, b = g.input(1, 4, 6, 6), g.input(1, 4, 6, 6, dtype="int8")
    g.steps(g.op("Add", a, b), 0.1, dtype="int8")
    g.steps(g.op("Concat", a, b, axis=1), 0.05, dtype="int8")
    g.steps(g.op("Sigmoid", b), 1 / 255, 0)
    g.steps(g.op("MaxPool", b, kernel_shape=[2, 2]), 0.05)
    g.steps(g.op("Conv", b, g.weight(weights(9, 4, 3, 3), scales(9), 0)), 0.1)
    g.steps(g.op("Softmax", b, axis=-1), 1 / 255, 0)
    g.steps(g.op("GlobalAveragePool", b), 0.02)
    assert check(g, tmp_path).in_float == {}


def test_weights_without_sign(tmp_path: Path) -> None:
    g = Quantizing()
    content = RNG.integers(0, 256, (8, 4, 3, 3)).astype(np.uint8)
    zeros = RNG.integers(100, 150, 8).astype(np.uint8)
    inputs = [g.constant(content), g.constant(scales(8)), g.constant(zeros)]
    g.steps(g.op("Conv", g.input(1, 4, 6, 6), g.op("DequantizeLinear", *inputs, axis=0)), 0.1)
    matrix = RNG.integers(0, 256, (12, 10)).astype(np.uint8)
    inputs = [g.constant(matrix), g.constant(np.float32(0.004)), g.constant(np.array(128, np.uint8))]
    g.steps(g.op("MatMul", g.input(5, 12), g.op("DequantizeLinear", *inputs)), 0.1)
    assert check(g, tmp_path).in_float == {}


@pytest.mark.parametrize("scale", [1e-45, 3e38])
def test_scales_at_the_ends_of_their_range(scale: float, tmp_path: Path) -> None:
    """What they give is left open, but for tables and moves, which give what floats would."""
    g = Quantizing()
    x = g.input(1, 4, 6, 6)
    for result, given in ((scale, x), (0.05, g.real("in0", "uint8", scale))):
        g.steps(g.op("Conv", given, g.weight(weights(8, 4, 1, 1), scales(8), 0)), result)
        g.steps(g.op("Add", given, x), result)
        g.steps(g.op("Mul", given, given), result)
        g.steps(g.op("Relu", given), result)
        g.steps(g.op("Transpose", given, perm=[0, 2, 1, 3]), result)
        g.steps(g.op("GlobalAveragePool", given), result)
        g.steps(g.op("Softmax", given), result)
    found = run(g.model(), g.feeds, tmp_path).outputs
    off = run(g.model(), g.feeds, tmp_path, integers=False).outputs
    assert found.keys() == off.keys()
    for name in (g.outputs[3], g.outputs[4], g.outputs[10], g.outputs[11]):
        np.testing.assert_array_equal(found[name], off[name])
