"""Poolings that QNN lacks or computes wrongly: averages over padding, L-p norms, three dimensions, dilations."""

from __future__ import annotations

import itertools
import math

import numpy as np

from mace_core.graph import sliding_window
from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.carriers import NARROW
from mace_hexagon.lowering.context import INT32, Array, DeclinedError, NodeContext
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.qnn.types import DataType

MOST_POSITIONS = 216
"""Of a window: each is one operation."""


def pool_by_positions(context: NodeContext) -> None:
    """One strided slice of the padded operand per position of the window, joined by sums or maxima."""
    is_real = context.dtype() in (DType.FLOAT32, DType.FLOAT16)
    is_maximum = context.node.op_type == "MaxPool"
    if context.is_quantized or not (is_real or (is_maximum and context.dtype() in (*NARROW, DType.INT32))):
        raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered in this form")
    name, shape, out = context.node.op_type, context.shape(), context.out_shape()
    if context.node.output(1) is not None:
        raise DeclinedError("MaxPool with indices is not offered by QNN")
    window = sliding_window(context.node, shape[2:], context.attr("kernel_shape"))
    if math.prod(window.kernel) > MOST_POSITIONS:
        raise DeclinedError(f"{name} over {math.prod(window.kernel)} positions is not offered in this form")
    if any(pad < 0 for pad in (*window.begins, *window.ends)):
        raise DeclinedError("negative padding is not offered by QNN")
    chain, p = Chain(context), int(context.attr("p", 2))
    reach = [
        (count - 1) * stride + (kernel - 1) * dilation + 1
        for count, stride, kernel, dilation in zip(
            out[2:], window.strides, window.kernel, window.dilations, strict=True
        )
    ]
    last = len(shape) - 1
    order = (0, *range(2, len(shape)), 1)  # slices of the last axis come out wrong
    x = context.x(0, order)
    if name == "LpPool":
        x = _power(context, x, p)
    if x.encoding is not None:
        raise DeclinedError(f"{name} of quantized codes is not offered")
    fill = (-65504.0 if is_real else float(INT32.min)) if is_maximum else 0.0
    padded = _padded(context, x, window.begins, reach, fill)
    laid = (out[0], *out[2:], out[1])
    flat = (math.prod(laid[: max(last - 2, 1)]), *laid[max(last - 2, 1) :])  # maxima are offered for four dimensions
    total: QTensor | None = None
    for place in itertools.product(*(range(kernel) for kernel in window.kernel)):
        ranges = [(0, shape[0], 1)]
        for offset, dilation, stride, count in zip(place, window.dilations, window.strides, out[2:], strict=True):
            begin = offset * dilation
            ranges.append((begin, begin + (count - 1) * stride + 1, stride))
        ranges.append((0, shape[1], 1))
        part = chain.shaped("StridedSlice", (padded,), laid, x.data_type, ranges=np.array(ranges, np.int32))
        part = context.reshaped(part, flat)
        operation = "ElementWiseMaximum" if is_maximum else "ElementWiseAdd"
        total = part if total is None else chain.op(operation, total, part)
    assert total is not None
    if name == "AveragePool":
        counts = _counts(context, shape[2:], out[2:])
        shares = np.broadcast_to(1.0 / np.moveaxis(counts, 1, -1), (laid[0], *laid[1:-1], 1))
        held = context.constant(shares.reshape(*flat[:-1], 1).astype(context.dtype().numpy), "shares")
        total = chain.op("ElementWiseMultiply", total, held)
    elif name == "LpPool" and p == 2:
        total = chain.op("ElementWiseSquareRoot", total)
    elif name == "LpPool" and p > 2:
        total = chain.op("ElementWisePower", total, chain.number(1.0 / p, total))
    context.emit("Reshape", [total], order)


def _power(context: NodeContext, x: QTensor, p: int) -> QTensor:
    chain = Chain(context)
    size = chain.op("ElementWiseAbs", x)
    power = size
    for _ in range(p - 1):
        power = chain.op("ElementWiseMultiply", power, size)
    return power


def _padded(context: NodeContext, x: QTensor, begins: tuple[int, ...], reach: list[int], fill: float) -> QTensor:
    """``x`` with ``fill`` around, as far as the windows reach."""
    spatial = zip(x.shape[1:-1], begins, reach, strict=True)
    pairs = [(0, 0), *((begin, max(length - begin - size, 0)) for size, begin, length in spatial), (0, 0)]
    if not any(pad for pair in pairs for pad in pair):
        return x
    if x.data_type is DataType.INT_32:
        raise DeclinedError("a pooling of integers with padding is not offered")
    shape = tuple(size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True))
    return Chain(context).shaped(
        "Pad",
        (x,),
        shape,
        x.data_type,
        scheme=np.uint32(0),
        pad_amount=np.array(pairs, np.uint32),
        pad_constant_value=np.float32(fill),
    )


def _counts(context: NodeContext, sizes: tuple[int, ...], out: tuple[int, ...]) -> Array:
    """How many elements each window averages."""
    window = sliding_window(context.node, sizes, context.attr("kernel_shape"))
    counts = np.ones((1, 1, *([1] * len(sizes))))
    for axis, size in enumerate(sizes):
        before, behind = window.begins[axis], window.ends[axis]
        starts = np.arange(out[axis])[:, None] * window.strides[axis]
        places = starts + np.arange(window.kernel[axis]) * window.dilations[axis] - before
        counts_padding = bool(context.attr("count_include_pad", 0))
        inside = places < size + behind if counts_padding else (places >= 0) & (places < size)
        along = [1] * (2 + len(sizes))
        along[2 + axis] = out[axis]
        counts = counts * inside.sum(1).reshape(along)
    return counts
