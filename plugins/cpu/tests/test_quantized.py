"""Quantized numbers and what is computed with them."""

from __future__ import annotations

import numpy as np
import pytest
from harness import FEATURES, check_node, here, rejection
from hypothesis import given, settings
from hypothesis import strategies as st

RNG = np.random.default_rng(5)
TYPES = ["int8", "uint8", "int16", "uint16"]


def scaled(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 40).astype(np.float32)


def integers(dtype: str, *shape: int) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("features", FEATURES)
def test_quantize_and_back_per_tensor(dtype: str, features: str | None) -> None:
    zero = np.array(3, dtype)
    check_node("QuantizeLinear", [scaled(3, 70), np.float32(0.25), zero], features=features)
    check_node("DequantizeLinear", [integers(dtype, 3, 70), np.float32(0.25), zero], features=features)
    check_node("DequantizeLinear", [integers(dtype, 5), np.float32(0.25)], features=features)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_quantize_per_axis(axis: int) -> None:
    size = (3, 4, 5)[axis]
    scale = (np.arange(size) + 1).astype(np.float32) / 7
    zero = np.arange(size).astype(np.int8)
    check_node("QuantizeLinear", [scaled(3, 4, 5), scale, zero], {"axis": axis}, threads=2)
    check_node("DequantizeLinear", [integers("int8", 3, 4, 5), scale, zero], {"axis": axis}, threads=2)


def test_quantize_per_block() -> None:
    scale = (RNG.random((3, 3, 2)) + 0.5).astype(np.float32)
    zero = integers("uint8", 3, 3, 2)
    options = {"axis": 1, "block_size": 2}
    check_node("QuantizeLinear", [scaled(3, 6, 2), scale, zero], options)
    check_node("DequantizeLinear", [integers("uint8", 3, 6, 2), scale, zero], options)


def test_rounding_is_to_even_and_everything_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    expected = np.array([0, 2, 2, 0, -2, 127, -128, 127, -128, -128], np.int8)
    for features in FEATURES:
        for times in (1, 3, 11):
            given, right = np.tile(x, times), np.tile(expected, times)
            check_node("QuantizeLinear", [given, np.float32(1), np.int8(0)], expected=[right], features=features)
            wide = right.astype(np.int16)
            wide[right == 127], wide[right == -128] = 32767, -32768
            check_node("QuantizeLinear", [given, np.float32(1), np.int16(0)], expected=[wide], features=features)


@pytest.mark.parametrize("features", here(None, "avx512", "avx2", "baseline"))
@pytest.mark.parametrize("scale", [0.1, 1 / 3, 0.0123456, 7.7, 2.0**-20 * 1.9999999, 1e-25])
def test_a_quotient_is_rounded_once(features: str | None, scale: float) -> None:
    """Numbers around every half step, a few units in the last place away."""
    step = np.float32(scale)
    halves = (np.arange(-140, 140, dtype=np.float64) + 0.5) * np.float64(step)
    near = halves.astype(np.float32)[:, None].view(np.int32) + np.arange(-6, 7, dtype=np.int32)
    x = np.ascontiguousarray(near.view(np.float32).reshape(-1))
    right = np.clip(np.rint(x / step) + 7, -128, 127).astype(np.int8)
    inputs = {"x": x, "scale": step, "zero": np.int8(7)}
    check_node("QuantizeLinear", inputs, expected=[right], features=features, constants=["scale", "zero"])


def test_numbers_that_are_not_quantized_are_declined() -> None:
    result = [np.zeros((2, 3), np.uint8)]
    assert "2 scales for 3" in rejection("QuantizeLinear", [scaled(2, 3), scaled(2)], result)
    assert "float64" in rejection("QuantizeLinear", [scaled(2, 3).astype(np.float64), np.float32(1)], result)


@settings(max_examples=20)
@given(st.data())
def test_integer_products_of_any_shape(data: st.DataObject) -> None:
    rows, depth, columns = (data.draw(st.integers(1, 9)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (2,), (2, 3), (1, 3)]))
    left, right = data.draw(st.sampled_from(["int8", "uint8"])), data.draw(st.sampled_from(["int8", "uint8"]))
    a, b = (
        integers(left, *batch, rows, depth),
        integers(right, *data.draw(st.sampled_from([(), batch])), depth, columns),
    )
    zeros = data.draw(st.sampled_from(["none", "one", "columns"]))
    a_zero = None if zeros == "none" else np.array(3, left)
    b_zero = {"none": None, "one": np.array(5, right), "columns": integers(right, columns)}[zeros]
    wide = np.matmul(
        a.astype(np.int32) - (0 if a_zero is None else a_zero.astype(np.int32)),
        b.astype(np.int32) - (0 if b_zero is None else b_zero.astype(np.int32)),
    )
    check_node("MatMulInteger", [a, b, a_zero, b_zero], expected=[wide], threads=2)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_quantized_product(dtype: str) -> None:
    scales = [np.float32(0.02), np.float32(0.03), np.float32(0.5)]
    a, b = integers(dtype, 2, 5, 8), integers(dtype, 2, 8, 6)
    zero = np.array(7, dtype)
    check_node("QLinearMatMul", [a, scales[0], zero, b, scales[1], zero, scales[2], zero], oracle="onnxruntime")


CONVOLUTIONS = [
    ((1, 3, 9, 8), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 4, 9, 8), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    ((1, 3, 12, 11), (2, 3, 3, 3), {"dilations": [2, 3]}),
    ((1, 4, 7, 7), (4, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((2, 3, 15), (4, 3, 4), {"strides": [3], "pads": [2, 1]}),
    ((1, 1, 2, 2), (1, 1, 3, 3), {"pads": [2, 2, 2, 2]}),
]


@pytest.mark.parametrize(("shape", "weight", "attributes"), CONVOLUTIONS)
def test_integer_convolution(shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, object]) -> None:
    x, w, zero = integers("uint8", *shape), integers("uint8", *weight), np.array(9, np.uint8)
    check_node("ConvInteger", [x, w, zero], attributes, oracle="onnxruntime", threads=2)
    check_node("ConvInteger", [x, w], attributes, oracle="onnxruntime")


@pytest.mark.parametrize(("shape", "weight", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("features", FEATURES)
def test_quantized_convolution(
    shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, object], features: str | None
) -> None:
    x, w = integers("uint8", *shape), integers("int8", *weight)
    scales = (RNG.random(weight[0]) / 50 + 0.01).astype(np.float32)
    bias = RNG.integers(-500, 500, weight[0]).astype(np.int32)
    zero, none = np.array(120, np.uint8), np.zeros(weight[0], np.int8)
    feeds = [x, np.float32(0.05), zero, w, scales, none, np.float32(1.5), zero, bias]
    check_node("QLinearConv", feeds, attributes, oracle="onnxruntime", features=features)
