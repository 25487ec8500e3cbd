"""Scales and zero points from ranges, and numbers to integers and back as QuantizeLinear and DequantizeLinear do it.

Sources: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
(2018), for the affine form with an exact zero; the ONNX operators for rounding (half to even) and saturation.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.quantization.grids import Grid
from mace_core.tensor import DType, QuantEncoding

Array: TypeAlias = npt.NDArray[Any]

LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Smaller scales are denormal, which many devices take for zero; their reciprocal is not finite."""

_LARGEST = float(np.finfo(np.float32).max)


def encoding_for_range(
    low: npt.ArrayLike, high: npt.ArrayLike, grid: Grid, *, axis: int | None = None, block_size: int = 0
) -> QuantEncoding:
    """The encoding whose integers span the numbers from ``low`` to ``high``.

    The range is widened to hold zero, so that zero is exact (padding, Relu). Where there is no range (both ends zero),
    any scale serves: the median of those that have one, or 1, which keeps the scale of a bias (input scale times weight
    scale) in proportion. Scales are never denormal, and no integer decodes to infinity.

    Args:
        low, high: ends of the range, of one shape: () per tensor, (C,) per channel, the scale's shape for blocks.
        grid: the integers to use.
        axis, block_size: as in `QuantEncoding`.

    Raises:
        UsageError: if an end is not finite, or an end lies on the wrong side of the other.
    """
    lows, highs = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if lows.shape != highs.shape:
        raise UsageError(f"A range has ends of shapes {list(lows.shape)} and {list(highs.shape)}; give one shape")
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise UsageError("A range to quantize has an end that is NaN or infinite; check the calibration data")
    if (lows > highs).any():
        raise UsageError("A range to quantize has a low end above its high end; swap the two")
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    if grid.is_symmetric:
        scales = np.maximum(-lows, highs) / (grid.greatest - grid.middle)
    else:
        scales = (highs - lows) / grid.steps
    scales = _usable_scales(scales, grid)
    if grid.is_symmetric:
        zeros = np.full(scales.shape, grid.middle)
    else:
        zeros = np.clip(np.rint(grid.least - lows / scales.astype(np.float64)), grid.least, grid.greatest)
    stored = np.asarray(np.asarray(zeros, np.int32)).astype(grid.dtype.numpy)
    return QuantEncoding(grid.dtype, scales, stored, axis, block_size)


def _usable_scales(scales: Array, grid: Grid) -> Array:
    """Scales as float32: positive, normal, and small enough for the largest step to be finite."""
    empty = scales == 0.0
    if empty.all():
        return np.ones(scales.shape, np.float32)
    filled = np.where(empty, np.median(scales[~empty]), scales)
    most = np.nextafter(np.float32(_LARGEST / grid.steps), np.float32(0))
    return np.clip(filled, LEAST_SCALE, most).astype(np.float32)


def encoding_for_bias(encoding: QuantEncoding, bias: Array, input_scale: float) -> QuantEncoding:
    """Weights' encoding, one scale for each bias, with scales large enough for the biases in 32 bits.

    A bias is stored in steps of input scale times weight scale. Where a channel's weights are tiny beside its bias, the
    bias would not fit; its weights matter as little, and get a wider step. The scales of other channels stay.

    Args:
        encoding: of the weights; its scale is (C,), or () for all channels.
        bias: (C,).
        input_scale: of the layer's input.
    """
    most = float(np.iinfo(np.int32).max) * 0.999
    needed = np.abs(np.asarray(bias, np.float64)) / most / float(input_scale)
    if encoding.scale.ndim == 0:
        needed = needed.max(initial=0.0)
    scales = np.maximum(encoding.scale.astype(np.float64), needed).astype(np.float32)
    return QuantEncoding(encoding.dtype, scales, encoding.zero_point, encoding.axis, encoding.block_size)


def quantize_bias(bias: Array, input_scale: float, weight_scale: Array) -> tuple[Array, Array]:
    """A bias as int32 in steps of input scale times weight scale, and those scales (float32, as many as the weights').

    Raises:
        UsageError: if it holds NaN.
    """
    scales = (np.asarray(weight_scale, np.float32) * np.float32(input_scale)).astype(np.float32)
    scales = np.maximum(scales, np.float32(LEAST_SCALE))
    if np.isnan(bias).any():
        raise UsageError("A bias to quantize holds NaN; check the model's weights")
    limits = np.iinfo(np.int32)
    steps = np.rint(np.asarray(bias, np.float64) / scales.astype(np.float64))
    return np.clip(steps, limits.min, limits.max).astype(np.int32), scales


def expanded(parameter: Array, encoding: QuantEncoding, shape: tuple[int, ...]) -> Array:
    """A scale or zero point in the form that broadcasts against an array of ``shape``.

    Raises:
        UsageError: if the encoding does not fit the shape.
    """
    if parameter.ndim == 0:
        return parameter
    axis = encoding.axis
    if axis is None or not 0 <= axis < len(shape):
        raise UsageError(f"an encoding along axis {axis} cannot describe an array of shape {list(shape)}")
    size = shape[axis]
    if encoding.block_size:
        wanted = (*shape[:axis], -(-size // encoding.block_size), *shape[axis + 1 :])
        if parameter.shape != wanted:
            raise UsageError(
                f"an encoding in blocks of {encoding.block_size} has scales of shape {list(parameter.shape)}; "
                f"an array of shape {list(shape)} needs {list(wanted)}"
            )
        repeated = np.repeat(parameter, encoding.block_size, axis=axis)
        return repeated[tuple(slice(0, size) if at == axis else slice(None) for at in range(len(shape)))]
    if parameter.shape != (size,):
        raise UsageError(
            f"an encoding has {parameter.size} scales along axis {axis}; an array of shape {list(shape)} needs {size}"
        )
    return parameter.reshape([size if at == axis else 1 for at in range(len(shape))])


def quantize_steps(array: Array, encoding: QuantEncoding) -> Array:
    """The integers for an array of floats as int32, saturated, in the arithmetic of ONNX's QuantizeLinear (float32).

    Infinities saturate.

    Raises:
        UsageError: if the array holds NaN, or the encoding does not fit its shape.
    """
    numbers = np.asarray(array)
    if numbers.dtype != np.float32:
        numbers = numbers.astype(np.float32)
    if np.isnan(numbers).any():
        raise UsageError(
            f"an array of shape {list(numbers.shape)} to quantize holds NaN; check the weights or the calibration data"
        )
    scale = expanded(encoding.scale, encoding, numbers.shape)
    zero = expanded(encoding.zero_point.astype(np.int32), encoding, numbers.shape)
    lowest, highest = limits(encoding.dtype)
    with np.errstate(over="ignore"):
        steps = np.rint(numbers / scale)
    wide = steps.astype(np.float64) if encoding.dtype is DType.INT32 else steps
    return np.asarray(np.clip(wide, lowest - zero, highest - zero)).astype(np.int32) + zero


def quantize(array: Array, encoding: QuantEncoding) -> Array:
    """An array of floats as integers of the encoding's type; errors as of `quantize_steps`."""
    return quantize_steps(array, encoding).astype(encoding.dtype.numpy)


def dequantize(integers: Array, encoding: QuantEncoding) -> Array:
    """Integers, of the encoding's type or wider, as float32: ``(q - zero_point) * scale``.

    Raises:
        UsageError: if the encoding does not fit the shape.
    """
    scale = expanded(encoding.scale, encoding, integers.shape)
    zero = expanded(encoding.zero_point.astype(np.int32), encoding, integers.shape)
    return np.asarray((integers.astype(np.int32) - zero).astype(np.float32) * scale)


def fake_quantize(array: Array, encoding: QuantEncoding) -> Array:
    """What is left of an array after `quantize` and `dequantize`, float32; errors as of `quantize_steps`."""
    return dequantize(quantize_steps(array, encoding), encoding)


def transposed(integers: Array, encoding: QuantEncoding) -> tuple[Array, QuantEncoding]:
    """A matrix of integers and its encoding with rows and columns exchanged."""
    has_matrix = encoding.scale.ndim == 2
    scale = np.ascontiguousarray(encoding.scale.T) if has_matrix else encoding.scale
    zero = np.ascontiguousarray(encoding.zero_point.T) if has_matrix else encoding.zero_point
    axis = None if encoding.axis is None else 1 - encoding.axis
    turned = QuantEncoding(encoding.dtype, scale, zero, axis, encoding.block_size)
    return np.ascontiguousarray(integers.T), turned


def limits(dtype: DType) -> tuple[int, int]:
    """The smallest and largest integer of an integer type."""
    if dtype.name.startswith("U"):
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def decoded_range(encoding: QuantEncoding) -> tuple[Array, Array]:
    """The smallest and largest number that each scale can stand for; what lies outside is clipped."""
    lowest, highest = limits(encoding.dtype)
    zero = encoding.zero_point.astype(np.float64)
    scale = encoding.scale.astype(np.float64)
    return (lowest - zero) * scale, (highest - zero) * scale


def weight_encoding(weights: Array, grid: Grid, *, axis: int | None = None, block_size: int = 0) -> QuantEncoding:
    """The encoding of the whole range of constant weights: per tensor, per element of ``axis``, or in blocks along it.

    Raises:
        UsageError: if a weight is not finite, or there is none.
    """
    low, high = grouped_extremes(weights, axis=axis, block_size=block_size)
    return encoding_for_range(low, high, grid, axis=axis, block_size=block_size)


def grouped_extremes(weights: Array, *, axis: int | None = None, block_size: int = 0) -> tuple[Array, Array]:
    """The smallest and largest weight of each group that shares a scale, in the shape of the scale.

    Raises:
        UsageError: if a weight is not finite, or there is none.
    """
    numbers = np.asarray(weights, np.float32)
    if not numbers.size:
        raise UsageError(f"weights of shape {list(numbers.shape)} hold no number to quantize")
    if not np.isfinite(numbers).all():
        raise UsageError(
            f"weights of shape {list(numbers.shape)} hold NaN or infinity; mend the model, or exclude the layer"
        )
    if axis is None:
        return np.asarray(numbers.min()), np.asarray(numbers.max())
    if block_size:
        starts = np.arange(0, numbers.shape[axis], block_size)
        return np.minimum.reduceat(numbers, starts, axis=axis), np.maximum.reduceat(numbers, starts, axis=axis)
    others = tuple(at for at in range(numbers.ndim) if at != axis)
    return numbers.min(axis=others), numbers.max(axis=others)
