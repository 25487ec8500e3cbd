"""Quantized operators as Neuron operations: types, scales and zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lowering_support import Array, lowered, node, only, operations, quantized_node
from mace_apu.lowering.engine import Lowered
from mace_apu.neuron.constants import OperandCode, Operation

U8 = (0.5, np.uint8(10))
I8 = (0.5, np.int8(-3))


def convolution(source: tuple[float, Any], codes: Array, scale: Array, zero: Array, **bias: Array) -> Lowered:
    """A quantized convolution of 3 channels with weights ``codes``; ``bias`` may have b, sb, zb."""
    axis = {"axis": 0} if np.ndim(scale) else {}
    before = [node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], **axis)]
    extra = ["wd"]
    if bias:
        before.append(
            node("DequantizeLinear", ["b", "sb", "zb"], ["bd"], **({"axis": 0} if np.ndim(bias["sb"]) else {}))
        )
        extra.append("bd")
    held: dict[str, Array] = {"w": codes, "sw": scale, "zw": zero, **bias}
    result = (2.0, source[1])
    nodes, constants = quantized_node("Conv", result, source, extra, before, held)
    return lowered(nodes, (1, 3, 4, 4), constants)


def codes(dtype: type, low: int, high: int) -> Array:
    return np.random.default_rng(0).integers(low, high, (5, 3, 1, 1)).astype(dtype)


@pytest.mark.parametrize("source", [U8, I8], ids=["uint8", "int8"])
def test_weights_per_channel_are_symmetric_and_the_bias_has_no_scale(source: tuple[float, Any]) -> None:
    scales = np.linspace(0.1, 0.5, 5).astype(np.float32)
    bias = {"b": np.arange(5, dtype=np.int32), "sb": (scales * np.float32(0.5)), "zb": np.zeros(5, np.int32)}
    w = codes(np.int8, -127, 127)
    call = only(convolution(source, w, scales, np.zeros(5, np.int8), **bias), Operation.CONV_2D)
    x, filters, shift = call.inputs[:3]
    kind = OperandCode.TENSOR_QUANT8_ASYMM if source is U8 else OperandCode.TENSOR_QUANT8_ASYMM_SIGNED
    assert (x.code, x.scale, x.zero_point) == (kind, 0.5, int(source[1]))
    assert filters.code is OperandCode.TENSOR_QUANT8_SYMM_PER_CHANNEL
    assert filters.channels is not None
    assert filters.channels.axis == 0
    np.testing.assert_array_equal(filters.channels.scales, scales)
    np.testing.assert_array_equal(filters.data, w.transpose(0, 2, 3, 1))
    assert (shift.code, shift.scale, shift.zero_point) == (OperandCode.TENSOR_INT32, 0.0, 0)
    np.testing.assert_array_equal(shift.data, bias["b"])


def test_channels_of_a_depthwise_filter_are_its_last_axis() -> None:
    before = [node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0)]
    held: dict[str, Array] = {
        "w": np.ones((3, 1, 2, 2), np.int8),
        "sw": np.ones(3, np.float32),
        "zw": np.zeros(3, np.int8),
    }
    nodes, constants = quantized_node("Conv", (8.0, np.uint8(0)), U8, ["wd"], before, held, group=3)
    filters = only(lowered(nodes, (1, 3, 4, 4), constants), Operation.DEPTHWISE_CONV_2D).inputs[1]
    assert filters.channels is not None
    assert (filters.channels.axis, filters.shape) == (3, (1, 2, 2, 3))


@pytest.mark.parametrize(
    ("source", "dtype", "zero", "expected"),
    [(U8, np.int8, 0, 128), (U8, np.uint8, 7, 7), (I8, np.int8, 2, 2), (I8, np.uint8, 128, 0)],
)
def test_weights_per_tensor_take_the_type_of_their_operand(
    source: tuple[float, Any], dtype: type, zero: int, expected: int
) -> None:
    w = codes(dtype, 0, 100)
    call = only(convolution(source, w, np.asarray(np.float32(0.25)), np.asarray(zero, dtype)), Operation.CONV_2D)
    x, filters, shift = call.inputs[:3]
    assert filters.code is x.code
    assert (filters.scale, filters.zero_point) == (0.25, expected)
    assert filters.data is not None
    real = (w.transpose(0, 2, 3, 1).astype(int) - zero) * 0.25
    np.testing.assert_array_equal((filters.data.astype(int) - filters.zero_point) * filters.scale, real)
    assert (shift.scale, shift.zero_point) == (0.125, 0)


def test_a_bias_in_other_units_is_told_in_those_of_the_products() -> None:
    bias = {"b": np.array([1, -2, 3, 4, 5], np.int32), "sb": np.asarray(np.float32(0.5)), "zb": np.asarray(np.int32(0))}
    found = convolution(U8, codes(np.int8, -9, 9), np.asarray(np.float32(0.25)), np.asarray(np.int8(0)), **bias)
    np.testing.assert_array_equal(only(found, Operation.CONV_2D).inputs[2].data, bias["b"] * 4)


def test_weights_per_channel_with_zero_points_are_computed_in_real_numbers() -> None:
    scales, zeros = np.ones(5, np.float32), np.arange(5, dtype=np.int8)
    found = convolution(U8, codes(np.int8, -9, 9), scales, zeros)
    kinds = operations(found)
    assert only(found, Operation.CONV_2D).inputs[1].code is OperandCode.TENSOR_FLOAT32
    assert (kinds[0], kinds.count(Operation.DEQUANTIZE), kinds.count(Operation.QUANTIZE)) == (Operation.QUANTIZE, 2, 2)


@pytest.mark.parametrize(
    ("op", "result", "operation"),
    [
        ("Sigmoid", (1 / 256, np.uint8(0)), Operation.LOGISTIC),
        ("Sigmoid", (1 / 256, np.int8(-128)), Operation.LOGISTIC),
        ("Tanh", (1 / 128, np.uint8(128)), Operation.TANH),
        ("Tanh", (1 / 128, np.int8(0)), Operation.TANH),
        ("Softmax", (1 / 256, np.uint8(0)), Operation.SOFTMAX),
    ],
)
def test_results_of_fixed_scale_stay_quantized(op: str, result: tuple[float, Any], operation: Operation) -> None:
    source = (0.05, type(result[1])(3))
    nodes, constants = quantized_node(op, result, source)
    call = only(lowered(nodes, (2, 6), constants), operation)
    assert call.outputs[0].scale == result[0]
    other, constants = quantized_node(op, (0.01, result[1]), source)
    assert only(lowered(other, (2, 6), constants), operation).inputs[0].code is OperandCode.TENSOR_FLOAT32


def test_operations_that_move_numbers_keep_the_scale() -> None:
    nodes, constants = quantized_node("MaxPool", U8, U8, kernel_shape=[2, 2])
    call = only(lowered(nodes, (1, 2, 4, 4), constants), Operation.MAX_POOL_2D)
    assert call.inputs[0].code is OperandCode.TENSOR_QUANT8_ASYMM
    nodes, constants = quantized_node("MaxPool", (0.25, np.uint8(0)), U8, kernel_shape=[2, 2])
    call = only(lowered(nodes, (1, 2, 4, 4), constants), Operation.MAX_POOL_2D)
    assert call.inputs[0].code is OperandCode.TENSOR_FLOAT32


def test_a_sum_may_have_a_scale_of_its_own_and_a_product_a_larger_one_only() -> None:
    nodes, constants = quantized_node("Add", (0.1, np.uint8(4)), U8, ["xd"])
    call = only(lowered(nodes, (2, 3), constants), Operation.ADD)
    assert (call.outputs[0].zero_point, call.outputs[0].code) == (4, OperandCode.TENSOR_QUANT8_ASYMM)
    for scale, kind in ((0.3, OperandCode.TENSOR_QUANT8_ASYMM), (0.2, OperandCode.TENSOR_FLOAT32)):
        nodes, constants = quantized_node("Mul", (scale, np.uint8(4)), U8, ["xd"])
        assert only(lowered(nodes, (2, 3), constants), Operation.MUL).inputs[0].code is kind


def test_a_matrix_quantized_per_channel_is_a_convolution_of_points() -> None:
    before = [node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0)]
    held: dict[str, Array] = {
        "w": np.ones((5, 3), np.int8),
        "sw": np.linspace(0.1, 1, 5).astype(np.float32),
        "zw": np.zeros(5, np.int8),
    }
    nodes, constants = quantized_node("Gemm", (9.0, np.uint8(0)), U8, ["wd"], before, held, transB=1)
    call = only(lowered(nodes, (4, 3), constants), Operation.CONV_2D)
    assert (call.inputs[0].shape, call.inputs[1].shape, call.outputs[0].shape) == (
        (4, 1, 1, 3), (5, 1, 1, 3), (4, 1, 1, 5),
    )  # fmt: skip


def test_a_tensor_per_channel_that_is_no_weight_is_declined() -> None:
    held: dict[str, Array] = {"s": np.ones(3, np.float32), "z": np.zeros(3, np.uint8)}
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1), node("DequantizeLinear", ["q", "s", "z"], axis=1)]
    found = lowered(nodes, (2, 3), held)
    assert "per channel" in next(iter(found.declined.values()))
    assert len(found.declined) == 2


def test_int8_and_uint8_do_not_meet_in_one_operation() -> None:
    nodes, constants = quantized_node("Add", (2.0, np.int8(0)), U8, ["xd"])
    assert only(lowered(nodes, (2, 3), constants), Operation.ADD).inputs[0].code is OperandCode.TENSOR_FLOAT32


def test_a_bias_beyond_32_bits_is_added_in_real_numbers() -> None:
    bias = {"b": np.full(5, 2**31 - 1, np.int32), "sb": np.asarray(np.float32(9)), "zb": np.asarray(np.int32(0))}
    found = convolution(U8, codes(np.int8, -9, 9), np.asarray(np.float32(0.25)), np.asarray(np.int8(0)), **bias)
    assert only(found, Operation.CONV_2D).inputs[0].code is OperandCode.TENSOR_FLOAT32
