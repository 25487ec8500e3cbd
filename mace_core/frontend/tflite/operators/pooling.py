"""Pools over (N, H, W, C) images."""

from __future__ import annotations

import math

import numpy as np

from mace_core.frontend.tflite.arithmetic.rounding import half_away
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.convolution import image
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.windows import window_attributes
from mace_core.graph import Value
from mace_core.tensor import DType


@converter("MAX_POOL_2D", options="Pool2DOptions")
def max_pool(op: Operation) -> None:
    _finish(op, _pool(op, "MaxPool", op.real(0)))


@converter("AVERAGE_POOL_2D", options="Pool2DOptions")
def average_pool(op: Operation) -> None:
    """The padding does not count."""
    if op.dtype(0) in LARGEST and op.result_dtype() is op.dtype(0) and op.is_quantized(op.tensor(0)):
        _pool_of_codes(op)
    else:
        _finish(op, _pool(op, "AveragePool", op.real(0)))


LARGEST = {DType.INT8: 128, DType.UINT8: 256, DType.INT16: 32768}
"""Of the numbers of a type, the largest magnitude."""

MOST_EXACT = 21
"""A factor of 1 + 2**-21 is still told from 1 behind a few roundings of float32."""


def _pool_of_codes(op: Operation) -> None:
    """The mean of the stored numbers, halves away from zero, whatever their zero points: so LiteRT counts.

    QuantizeLinear rounds halves to even: a quarter of all means of four numbers are halves.  A scale that is a little
    less makes them a little more than halves, and moves nothing else over a boundary, as long as means of so many
    numbers do not lie so close.
    """
    scale, zero, attributes = op.encoding(op.tensor(0))
    step = scale.constant
    if attributes or step is None or op.option("FusedActivationFunction") not in _BOUNDS:
        _finish(op, _pool(op, "AveragePool", op.real(0)))
        return
    size, nothing = float(step.numpy()), np.zeros((), op.dtype(0).numpy)
    stored = op.emit("DequantizeLinear", [op.stored(0), scale, op.number(nothing, nothing.dtype)])
    means = _pool(op, "AveragePool", stored)
    bounds = _BOUNDS[op.option("FusedActivationFunction")]
    if bounds is not None:
        middle = 0 if zero.constant is None else int(zero.constant.numpy())
        steps = [middle + half_away(np.asarray(bound / size)) if math.isfinite(bound) else bound for bound in bounds]
        means = op.emit("Clip", [means, *(op.number(float(at) * size, np.float32) for at in steps)])
    taps = op.option("FilterHeight") * op.option("FilterWidth")
    exponent = math.ceil(math.log2(2 * taps * LARGEST[op.dtype(0)])) + 1
    if exponent <= MOST_EXACT:
        size /= 1 + 2.0**-exponent
    op.keep(op.emit("QuantizeLinear", [means, op.number(size, np.float32), op.number(nothing, nothing.dtype)]))


_BOUNDS: dict[int, tuple[float, float] | None] = {0: None, 1: (0.0, math.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""What fused activations bound, by their numbers in the schema."""


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
