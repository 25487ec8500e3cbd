"""Functions of one tensor in 16 bits: what LiteRT's kernels read out of their tables, number for number.

They interpolate between few places, up to hundreds of steps from the function.  Whatever a kernel does with one number
of 16 bits is a table of 65,536 results here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.arithmetic import sigmoid
from mace_core.frontend.tflite.arithmetic.interpolation import Function, between_places, places
from mace_core.frontend.tflite.arithmetic.rounding import multiplied, multiplier_of
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators import activation
from mace_core.frontend.tflite.registry import sixteen_bit_converter
from mace_core.graph import Value
from mace_core.tensor import DType

_STEP = 2.0**-15
_RANGE = 65535
CODES = np.concatenate([np.arange(0, 32768), np.arange(-32768, 0)])
"""All numbers of 16 bits, in the order in which they index a table: negative ones count from its end."""


def table_of(op: Operation, x: Value, results: npt.NDArray[np.generic]) -> Value:
    """``results`` at the numbers of 16 bits (or differences of such) in ``x``; they follow the order of `CODES`."""
    return op.emit("Gather", [op.number(results, results.dtype), op.cast(x, DType.INT32)], {"axis": 0})


def _scales(op: Operation) -> tuple[float, float] | None:
    """The scales of input and output where both are 16 bits around 0, as LiteRT's kernels ask; None where not."""
    found = []
    for tensor, dtype in ((op.tensor(0), op.dtype(0)), (op.result(), op.result_dtype())):
        quantization = tensor.quantization
        if dtype is not DType.INT16 or quantization is None or quantization.scale.size != 1:
            return None
        scale = float(quantization.scale[0])
        if quantization.zero_point[0] != 0 or not math.isfinite(scale) or scale <= 0:
            return None
        found.append(scale)
    return found[0], found[1]


def _interpolated(op: Operation, function: Function, otherwise: Callable[[Operation], None]) -> None:
    scales = _scales(op)
    if scales is None:
        otherwise(op)
        return
    results = between_places(CODES, places(function, *scales))
    op.keep(table_of(op, op.stored(0), results))


@sixteen_bit_converter("EXP")
def exponential(op: Operation) -> None:
    _interpolated(op, np.exp, activation.same)


@sixteen_bit_converter("LOG")
def logarithm(op: Operation) -> None:
    """Of numbers that are not positive: the least number of the output."""
    scales = _scales(op)
    least = 0.0 if scales is None else -32768 * scales[1]
    _interpolated(op, lambda x: np.where(x <= 0, least, np.log(np.where(x <= 0, 1, x))), activation.same)


@sixteen_bit_converter("RSQRT")
def reciprocal_root(op: Operation) -> None:
    """Of numbers that are not positive: the greatest number of the output."""
    scales = _scales(op)
    greatest = 0.0 if scales is None else 32767 * scales[1]
    _interpolated(
        op,
        lambda x: np.where(x <= 0, greatest, 1 / np.sqrt(_single(np.where(x <= 0, 1, x)))),
        activation.reciprocal_root,
    )


@sixteen_bit_converter("GELU", options="GeluOptions")
def gelu(op: Operation) -> None:
    _interpolated(op, _gelu_of_tanh if op.option("Approximate") else _gelu, activation.gelu)


def _single(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """LiteRT computes these functions in float32: each of their operations rounds."""
    return x.astype(np.float32)


def _gelu(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    inner = _single(x) * np.float32(-math.sqrt(0.5))
    return np.float32(0.5) * _single(x) * _single(np.array([math.erfc(number) for number in inner.tolist()]))


def _gelu_of_tanh(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    single = _single(x)
    inner = np.float32(math.sqrt(2 / math.pi)) * (single + np.float32(0.044715) * single * single * single)
    return np.float32(0.5) * single * (np.float32(1) + _single(np.tanh(inner.astype(np.float64))))


@sixteen_bit_converter("TANH")
def tanh(op: Operation) -> None:
    _of_fixed_range(op, sigmoid.tanh)


@sixteen_bit_converter("LOGISTIC")
def logistic(op: Operation) -> None:
    _of_fixed_range(op, sigmoid.logistic)


def _of_fixed_range(op: Operation, function: Callable[[npt.NDArray[np.int64], float], npt.NDArray[np.int64]]) -> None:
    """Functions whose results are from -1 to 1, in steps of 2**-15."""
    scales = _scales(op)
    if scales is None or scales[1] != _STEP:
        activation.same(op)
    else:
        op.keep(table_of(op, op.stored(0), function(CODES, scales[0]).astype(np.int16)))


@sixteen_bit_converter("SOFTMAX", options="SoftmaxOptions")
def softmax(op: Operation) -> None:
    """Along the last axis: exponentials out of one table, the reciprocal of their sum out of another.

    The sum has up to 31 bits.  It is shifted until its highest bit is bit 30, so that the second table is read in steps
    of 2**-16 between 1 and 2.
    """
    scales = _scales(op)
    if scales is None or abs(scales[1] / _STEP - 1) > 1e-3:
        activation.softmax(op)
        return
    x = op.cast(op.stored(0), DType.INT32)
    below = op.emit("Sub", [x, op.emit("ReduceMax", [x, op.number([-1])], {"keepdims": 1})])
    scale = float(np.float32(scales[0]) * np.float32(op.option("Beta")))
    exponentials = op.emit("Gather", [op.number(_exponentials(scale)), below], {"axis": 0})
    total = op.emit("ReduceSum", [exponentials, op.number([-1])], {"keepdims": 1})

    powers = op.number(1 << np.arange(1, 31))
    bits = op.cast(op.emit("GreaterOrEqual", [total, powers]), DType.INT64)
    bits = op.emit("ReduceSum", [bits, op.number([-1])], {"keepdims": 1})  # the highest bit's number
    left = op.emit("Gather", [op.number(1 << np.arange(30, -1, -1)), bits])
    shifted = op.emit("Add", [op.emit("Mul", [total, left]), op.number(1 << 13)])
    place = op.emit("Sub", [op.emit("Div", [shifted, op.number(1 << 14)]), op.number(1 << 16)])
    reciprocal = op.emit("Gather", [op.number(_reciprocals()), op.emit("Min", [place, op.number(_RANGE)])])

    right = op.emit("Gather", [op.number(1 << np.arange(31)), bits])
    half = op.emit("Div", [right, op.number(2)])
    y = op.emit("Div", [op.emit("Add", [op.emit("Mul", [exponentials, reciprocal]), half]), right])
    op.keep(op.cast(op.emit("Min", [y, op.number(32767)]), DType.INT16))


def _exponentials(scale: float) -> npt.NDArray[np.int64]:
    """exp(x * scale) in steps of 2**-15 for x = 0, -65535, -65534, ... -1: negative indices count from the end."""
    below = np.concatenate([[0], np.arange(-_RANGE, 0)])
    multiplier = multiplier_of(scale / (10.0 / _RANGE))
    at = np.clip(multiplied(below, multiplier) + 32767, -32768, 32767)
    table = places(np.exp, 10.0 / _RANGE, 2.0 / _RANGE, input_zero=32767, kind=np.float64)
    return between_places(at, table).astype(np.int64)


def _reciprocals() -> npt.NDArray[np.int64]:
    """1 / (1 + x) in steps of 2**-15 for x from 0 to 1 in 65,536 steps."""
    table = places(lambda x: 1 / (1 + x), 1.0 / _RANGE, 2.0 / _RANGE, input_zero=-32768, kind=np.float64)
    return between_places(np.arange(-32768, 32768), table).astype(np.int64)
