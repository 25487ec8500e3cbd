"""Products of floats with weights in integers (dynamic range): the activations become bytes in each run, as in LiteRT.

A row, or an image, of activations is stored in 8 bits by its own least and greatest number, and the products are added
up in integers.  LiteRT's default kernels (XNNPACK, "qd8") do so whatever the option `asymmetric_quantize_inputs` says,
and the formulas here are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.operation import Operation
from mace_core.graph import Value
from mace_core.tensor import DType

_LOW, _HIGH = -128.0, 127.0
_BYTES = (DType.INT8, DType.INT4, DType.INT2)


@dataclass(frozen=True, slots=True)
class Rows:
    """Activations in steps of their own.

    Attributes:
        steps: whole numbers of steps above 0, as floats: ``(stored - zero)`` of LiteRT.
        zero: which of -128 to 127 stands for 0, as floats; with the axes that were reduced of size 1.
        size: of one step, likewise.
    """

    steps: Value
    zero: Value
    size: Value

    def numbers(self, op: Operation) -> Value:
        """As real numbers."""
        return op.emit("Mul", [self.steps, self.size])

    def bytes(self, op: Operation) -> tuple[Value, Value]:
        """As uint8, and the zero point that goes with them, as uint8 too."""
        zero = op.emit("Sub", [self.zero, op.number(_LOW, np.float32)])
        return op.cast(op.emit("Add", [self.steps, zero]), DType.UINT8), op.cast(zero, DType.UINT8)


def is_hybrid(op: Operation, x: int = 0, weights: int = 1) -> bool:
    """Whether LiteRT would compute a product in bytes: floats times constant integers around 0."""
    if not op.place.root.is_hybrid or op.dtype(x) is not DType.FLOAT32 or not op.has(weights):
        return False
    tensor = op.tensor(weights)
    quantization = tensor.quantization
    if quantization is None or op.dtype(weights) not in _BYTES or op.constant(weights) is None:
        return False
    return bool(quantization.block_size or not quantization.zero_point.any())


def rows(op: Operation, x: Value, axes: Sequence[int], make: Callable[..., Rows] | None = None) -> Rows:
    """Floats in steps; each part that ``axes`` are reduced in has its own."""
    make = make or _rows
    key = (x, tuple(axes), make.__name__)
    found = op.place.rows.get(key)
    if found is None:
        found = op.place.rows[key] = make(op, x, axes)
    return found


def _rows(op: Operation, x: Value, axes: Sequence[int]) -> Rows:
    """By XNNPACK's formulas (xnn_f32_qd8_asymmetric_quantization_params)."""
    low, high = _limits(op, x, axes)
    span = op.emit("Sub", [high, low])
    is_flat = op.emit("Equal", [span, _number(op, 0)])
    per_unit = op.emit("Where", [is_flat, _number(op, 1), op.emit("Div", [_number(op, 255), span])])
    low, high = op.emit("Mul", [low, per_unit]), op.emit("Mul", [high, per_unit])
    zero = _zero(op, low, high, np.float32)
    steps = op.emit("Round", [op.emit("Mul", [x, per_unit])])
    steps = op.emit("Max", [steps, op.emit("Sub", [_number(op, _LOW), zero])])
    steps = op.emit("Min", [steps, op.emit("Sub", [_number(op, _HIGH), zero])])
    return Rows(steps, zero, op.emit("Div", [_number(op, 1), per_unit]))


def _builtin_rows(op: Operation, x: Value, axes: Sequence[int]) -> Rows:
    """By the formulas of LiteRT's own kernels (NeonAsymmetricQuantizeFloats), which are partly in double precision."""
    wide = np.float64
    low, high = _limits(op, x, axes)
    span = op.cast(op.emit("Sub", [high, low]), DType.FLOAT64)
    is_flat = op.emit("Equal", [span, _number(op, 0, wide)])
    size = op.emit("Where", [is_flat, _number(op, 1, wide), op.emit("Div", [span, _number(op, 255, wide)])])
    low, high = (op.emit("Div", [op.cast(end, DType.FLOAT64), size]) for end in (low, high))
    zero = op.cast(_zero(op, low, high, wide), DType.FLOAT32)
    zero = op.emit("Where", [is_flat, _number(op, 0), zero])
    size = op.cast(size, DType.FLOAT32)
    steps = op.emit("Mul", [x, op.emit("Div", [_number(op, 1), size])])
    half = op.emit("Where", [op.emit("Less", [steps, _number(op, 0)]), _number(op, -0.5), _number(op, 0.5)])
    steps = op.cast(op.cast(op.emit("Add", [steps, half]), DType.INT32), DType.FLOAT32)
    steps = op.emit("Max", [steps, op.emit("Sub", [_number(op, _LOW), zero])])
    steps = op.emit("Min", [steps, op.emit("Sub", [_number(op, _HIGH), zero])])
    return Rows(steps, zero, size)


def _number(op: Operation, content: float, dtype: npt.DTypeLike = np.float32) -> Value:
    return op.number(content, dtype)


def _limits(op: Operation, x: Value, axes: Sequence[int]) -> tuple[Value, Value]:
    """The least and the greatest number, 0 among them."""
    reduced, nothing = op.number(list(axes)), _number(op, 0)
    low = op.emit("Min", [op.emit("ReduceMin", [x, reduced], {"keepdims": 1}), nothing])
    high = op.emit("Max", [op.emit("ReduceMax", [x, reduced], {"keepdims": 1}), nothing])
    return low, high


def _zero(op: Operation, low: Value, high: Value, dtype: npt.DTypeLike) -> Value:
    """Which of -128 to 127 stands for 0, from the limits in steps: by the limit that is nearer to its end."""
    first, last = _number(op, _LOW, dtype), _number(op, _HIGH, dtype)
    errors = op.emit("Add", [op.emit("Add", [low, first]), op.emit("Add", [high, last])])
    by_low, by_high = op.emit("Sub", [first, low]), op.emit("Sub", [last, high])
    zero = op.emit("Where", [op.emit("Greater", [errors, _number(op, 0, dtype)]), by_low, by_high])
    return op.emit("Round", [op.emit("Clip", [zero, first, last])])


def real_rows(op: Operation, x: Value, axes: Sequence[int]) -> Value:
    """Floats as they are once they were stored in bytes: for products that ONNX does not have in integers."""
    return rows(op, x, axes).numbers(op)


def convolution(
    op: Operation, x: Value, order: Sequence[int], bias: Sequence[Value], attributes: dict[str, Any]
) -> Value:
    """A convolution of images (N, H, W, C), in bytes; the result is (N, O, H, W).

    ConvInteger knows one zero point.  Of several images each has its own, so that 0 is padded before the bytes are
    made, and what stands for 0 is taken off behind the sums.
    """
    is_depthwise = op.file.builtin == "DEPTHWISE_CONV_2D"
    is_own = is_depthwise or op.dtype(1) is not DType.INT8  # LiteRT's own kernels, not XNNPACK
    stored = rows(op, x, (1, 2, 3), _builtin_rows if is_own else None)
    weights = _integers(op, 1, order)
    if op.shape(0)[0] == 1:
        content, zero = stored.bytes(op)
        scalar = op.number(np.zeros(0))
        size = op.emit("Reshape", [stored.size, scalar])
        inputs = [op.to_channels_first(content), weights, op.emit("Reshape", [zero, scalar])]
        sums = op.emit("ConvInteger", inputs, attributes)
    else:
        size = op.to_channels_first(stored.size)
        content, zero = replace(stored, steps=_padded(op, stored.steps, attributes["pads"])).bytes(op)
        unpadded = {**attributes, "pads": [0, 0, 0, 0]}
        sums = op.emit("ConvInteger", [op.to_channels_first(content), weights], unpadded)
        off = op.emit("Mul", [op.to_channels_first(op.cast(zero, DType.INT32)), _totals(op, order)])
        sums = op.emit("Sub", [sums, off])
    sums = op.cast(sums, DType.FLOAT32)
    if is_own:
        if is_depthwise:
            sums = op.emit("Mul", [_scaled(op, sums, (), (-1, 1, 1)), size])
        else:
            sums = op.emit("Mul", [sums, _scaled(op, size, (), (-1, 1, 1))])
        return op.emit("Add", [sums, *(_shaped(op, value) for value in bias)]) if bias else sums
    return _scaled(op, op.emit("Mul", [sums, size]), bias, (-1, 1, 1))


def _padded(op: Operation, steps: Value, pads: Sequence[int]) -> Value:
    if not any(pads):
        return steps
    top, left, bottom, right = pads
    return op.emit("Pad", [steps, op.number([0, top, left, 0, 0, bottom, right, 0]), _number(op, 0)])


def pointwise(op: Operation, x: Value, order: Sequence[int], bias: Sequence[Value]) -> Value:
    """A convolution with windows of one pixel, in bytes: LiteRT makes a product of it, with a step for each pixel."""
    stored = rows(op, x, (-1,))
    content, zero = stored.bytes(op)
    sums = op.emit("ConvInteger", [op.to_channels_first(content), _integers(op, 1, order)])
    moved = op.to_channels_first(op.cast(zero, DType.INT32))
    sums = op.emit("Sub", [sums, op.emit("Mul", [moved, _totals(op, order)])])
    sums = op.emit("Mul", [op.cast(sums, DType.FLOAT32), op.to_channels_first(stored.size)])
    return _scaled(op, sums, bias, (-1, 1, 1))


def product(op: Operation, x: Value, bias: Sequence[Value]) -> Value:
    """Rows times weights (units, elements), in bytes.

    What stands for 0 is taken off behind the product, times the sums of weights: ONNX has one zero point for a matrix.
    """
    stored = rows(op, x, (-1,))
    content, zero = stored.bytes(op)
    sums = op.emit("MatMulInteger", [content, _integers(op, 1, (1, 0))])
    sums = op.emit("Sub", [sums, op.emit("Mul", [op.cast(zero, DType.INT32), _totals(op, None)])])
    sums = op.emit("Mul", [op.cast(sums, DType.FLOAT32), stored.size])
    return _scaled(op, sums, bias, (-1,))


def _totals(op: Operation, order: Sequence[int] | None) -> Value:
    """The sums of the weights of each unit; for filters, which ``order`` makes (O, I, H, W), as (O, 1, 1)."""
    held = op.constant(1)
    assert held is not None
    wide = held.astype(np.int64)
    if order is None:
        return op.number(wide.sum(1), np.int32)
    return op.number(wide.transpose(order).sum((1, 2, 3)).reshape(-1, 1, 1), np.int32)


def _integers(op: Operation, index: int, order: Sequence[int]) -> Value:
    """Weights as int8, with their axes in another order."""
    content = op.stored(index)
    if op.dtype(index) is not DType.INT8:
        content = op.cast(content, DType.INT8)
    return op.emit("Transpose", [content], {"perm": list(order)})


def _scaled(op: Operation, sums: Value, bias: Sequence[Value], shape: Sequence[int]) -> Value:
    """Sums times the scales of the weights, and the bias.

    XNNPACK rounds once for both.  A step of the last bit decides how the next product stores its activations, so this
    is done in double precision.
    """
    quantization = op.tensor(1).quantization
    assert quantization is not None
    scale = quantization.scale.reshape(shape if quantization.scale.size > 1 else ())
    if not bias:
        return op.emit("Mul", [sums, op.number(scale, np.float32)])
    (added,) = bias
    if len(shape) > 1:
        added = _shaped(op, added)
    y = op.emit("Mul", [op.cast(sums, DType.FLOAT64), op.number(scale, np.float64)])
    return op.cast(op.emit("Add", [y, op.cast(added, DType.FLOAT64)]), DType.FLOAT32)


def _shaped(op: Operation, bias: Value) -> Value:
    """A bias for (N, O, H, W)."""
    return op.emit("Reshape", [bias, op.number([-1, 1, 1])])
