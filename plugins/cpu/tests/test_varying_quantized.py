"""Quantized products and convolutions of pictures whose sizes vary from run to run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from test_varying_pixels import PICTURES, Array, Dims, check_sizes, make_model

SCALES: dict[str, Array] = {
    "s": np.asarray(0.02, np.float32),
    "z": np.asarray(120, np.uint8),
    "ws": np.asarray(0.01, np.float32),
    "wz": np.asarray(3, np.int8),
    "ys": np.asarray(0.1, np.float32),
    "yz": np.asarray(130, np.uint8),
}


def _bytes(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).integers(-90, 90, shape).astype(np.int8)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "direct": ((32, 16, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "depthwise": ((16, 1, 3, 3), {"pads": [1, 1, 1, 1], "group": 16}),
    "of digits": ((16, 160, 3, 3), {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_quantized_convolutions(caplog: pytest.LogCaptureFixture, name: str) -> None:
    shape, attributes = CONVOLUTIONS[name]
    x: Dims = ["n", shape[1] * attributes.get("group", 1), "h", "w"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["r"], **attributes),
        helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["y"]),
    ]
    check_sizes(caplog, make_model(nodes, x, {**SCALES, "w": _bytes(*shape)}), x, PICTURES, plans=6, tolerance=0.11)


def test_convolutions_of_integers(caplog: pytest.LogCaptureFixture) -> None:
    x: Dims = ["n", 16, "h", "w"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("ConvInteger", ["q", "w", "z"], ["r"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["r"], ["y"], to=1),
    ]
    check_sizes(caplog, make_model(nodes, x, {**SCALES, "w": _bytes(8, 16, 3, 3)}), x, PICTURES, plans=6)


def test_products(caplog: pytest.LogCaptureFixture) -> None:
    x: Dims = ["n", "h", 48]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=1),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "yz"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "ys", "yz"], ["d"]),
        helper.make_node("Mul", ["f", "d"], ["y"]),
    ]
    check_sizes(caplog, make_model(nodes, x, {**SCALES, "w": _bytes(48, 40)}), x, PICTURES, plans=6)


@pytest.mark.parametrize("axis", [None, 1, -1])
def test_linear_quantization(caplog: pytest.LogCaptureFixture, axis: int | None) -> None:
    x: Dims = ["n", 16, "h", 16]
    constants = (
        SCALES
        if axis is None
        else {"s": np.linspace(0.01, 0.1, 16, dtype=np.float32), "z": np.arange(16, dtype=np.uint8)}
    )
    more = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **more),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **more),
    ]
    check_sizes(caplog, make_model(nodes, x, constants), x, PICTURES, plans=6)
