"""Pools over (N, H, W, C) images."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.windows import window_attributes
from mace_core.graph import Value


@converter("MAX_POOL_2D", options="Pool2DOptions")
def max_pool(op: Operation) -> None:
    _finish(op, _pool(op, "MaxPool", op.real(0)))


@converter("AVERAGE_POOL_2D", options="Pool2DOptions")
def average_pool(op: Operation) -> None:
    """The padding does not count."""
    _finish(op, _pool(op, "AveragePool", op.real(0)))


@converter("L2_POOL_2D", options="Pool2DOptions")
def l2_pool(op: Operation) -> None:
    """The root of the mean of the squares."""
    x = op.real(0)
    _finish(op, op.emit("Sqrt", [_pool(op, "AveragePool", op.emit("Mul", [x, x]))]))


def _pool(op: Operation, kind: str, x: Value) -> Value:
    _, height, width, _ = image(op, 0)
    kernel = (op.option("FilterHeight"), op.option("FilterWidth"))
    if min(kernel) < 1:
        raise op.error(f"has a window of {list(kernel)}")
    strides = (op.option("StrideH"), op.option("StrideW"))
    attributes = window_attributes(op, (height, width), kernel, strides, (1, 1), op.option("Padding"))
    attributes["kernel_shape"] = list(kernel)
    return op.to_channels_last(op.emit(kind, [op.to_channels_first(x)], attributes))


def _finish(op: Operation, y: Value) -> None:
    op.finish(op.activated(y, op.option("FusedActivationFunction")))
