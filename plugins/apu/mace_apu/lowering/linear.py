"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from mace_apu.description import Operand, scalar_bool, scalar_int
from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import MAX_RANK, Order
from mace_apu.lowering.table import LOWERINGS
from mace_apu.lowering.weights import bias, filters
from mace_apu.lowering.windows import Window
from mace_apu.neuron.constants import Fuse, Operation

_POINT = Window((1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)))
"""A product of matrices as a convolution of pictures of one point: that takes weights per channel."""


def _gemm(context: NodeContext) -> None:
    alpha, beta = float(context.attr("alpha", 1.0)), float(context.attr("beta", 1.0))
    shape = context.shape(1)
    transposed = bool(context.attr("transB", 0))
    x = context.x(0, (1, 0) if context.attr("transA", 0) else (0, 1))
    columns = shape[0] if transposed else shape[1]
    order = (0, 1) if transposed else (1, 0)
    if (alpha, beta) != (1.0, 1.0) and context.is_quantized:
        raise DeclinedError("Gemm with alpha or beta is offered for real numbers only")
    if (alpha, beta) != (1.0, 1.0) and not context.is_constant(1):
        _with_matrix(context, x, alpha, beta, order)
        return
    if context.has(2) and not _is_row(context, columns):
        _with_matrix(context, x, alpha, beta, order)
        return
    if context.is_quantized or (alpha, beta) == (1.0, 1.0):
        weights = filters(context, x, shape, order, order[0]) if context.is_constant(1) else context.x(1, order)
        shift = bias(context, x, weights, columns)
    else:
        array = context.array(1)
        assert array is not None
        weights = context.constant((np.transpose(array, order) * alpha).astype(array.dtype), "weights")
        added = context.array(2)
        reals = np.zeros(columns) if added is None else added.reshape(-1) * beta
        shift = context.constant(np.broadcast_to(reals, columns).astype(array.dtype), "bias")
    _product(context, x, weights, shift)


def _with_matrix(context: NodeContext, x: Operand, alpha: float, beta: float, order: Order) -> None:
    """alpha * x @ weights + beta * addend, where the addend is no bias per column."""
    if context.is_quantized:
        raise DeclinedError("a quantized Gemm is offered with one bias per column only")
    dtype, none = context.dtype().numpy, scalar_int(int(Fuse.NONE), "activation")
    weights = context.x(1, order)
    if alpha != 1.0:  # the products without it might be beyond float16
        factor = context.constant(np.array([alpha], dtype))
        x = context.compute(Operation.MUL, [x, factor, none])
    zeros = context.constant(np.zeros(weights.shape[0], dtype), "bias")
    rows = (x.shape[0], weights.shape[0])
    if not context.has(2):
        context.emit(Operation.FULLY_CONNECTED, [x, weights, zeros, context.fuse()])
        return
    made = context.compute(Operation.FULLY_CONNECTED, [x, weights, zeros, none], rows)
    addend = context.x(2)
    if beta != 1.0:
        addend = context.compute(Operation.MUL, [addend, context.constant(np.array([beta], dtype)), none])
    context.emit(Operation.ADD, [made, addend, context.fuse()])


def _is_row(context: NodeContext, columns: int) -> bool:
    shape = context.shape(2)
    return context.is_constant(2) and math.prod(shape) == columns and (columns == 1 or shape[-1] == columns)


def _matmul(context: NodeContext) -> None:
    left, right = context.shape(0), context.shape(1)
    if len(right) == 2 and len(left) >= 1 and context.is_constant(1):
        x = context.reshaped(context.x(0), (math.prod(left[:-1]), left[-1]))
        weights = filters(context, x, right, (1, 0), 1)
        _product(context, x, weights, bias(context, x, weights, right[1]))
        return
    if len(left) < 2 or len(right) < 2:
        raise DeclinedError("MatMul with a vector is offered for constant matrices only")
    outer = context.out_shape()[:-2]
    batch = math.prod(outer)
    if batch == 1 and not context.is_quantized:
        # older versions have this one too
        x, columns = context.reshaped(context.x(0), left[-2:]), right[-1]
        weights = _turned(context, context.reshaped(context.x(1), right[-2:]))
        zeros = context.constant(np.zeros(columns, context.dtype().numpy), "bias")
        _product(context, x, weights, zeros)
        return
    a, b = _matrices(context, 0, outer), _matrices(context, 1, outer)
    result = context.new_result()
    made = context.temporary((batch, left[-2], right[-1]), result, "products")
    straight = made.shape == result.shape
    keep = [scalar_bool(False, "adjoint_x"), scalar_bool(False, "adjoint_y")]
    context.lowering.add(Operation.BATCH_MATMUL, [a, b, *keep], [result if straight else made])
    context.finish(context.reshaped(made, result.shape) if not straight else result)


def _turned(context: NodeContext, matrix: Operand) -> Operand:
    """Rows become columns."""
    rows, columns = matrix.shape
    if matrix.data is not None:
        return context.constant(matrix.data.T, "weights")
    turned = context.temporary((columns, rows), matrix, "turned")
    context.lowering.transpose(matrix, (1, 0), turned)
    return turned


def _matrices(context: NodeContext, index: int, outer: tuple[int, ...]) -> Operand:
    """An operand as one matrix for each of the result."""
    shape, batch = context.shape(index), math.prod(outer)
    operand = context.x(index)
    if math.prod(shape[:-2]) != batch:
        full = (1,) * (len(outer) + 2 - len(shape)) + shape
        if len(full) > MAX_RANK:
            raise DeclinedError("MatMul that repeats matrices is offered for up to four dimensions only")
        wanted = (*outer, *shape[-2:])
        seen = context.reshaped(operand, full)
        operand = context.compute(Operation.TILE, [seen, context.repeats(full, wanted)], wanted)
    return context.reshaped(operand, (batch, *shape[-2:]))


def _product(context: NodeContext, x: Operand, weights: Operand, shift: Operand) -> None:
    """``x`` (rows, depth) times ``weights`` (columns, depth), in the shape of the result."""
    fuse = context.fuse()
    result = context.new_result()
    (rows, depth), columns = x.shape, weights.shape[0]
    flat = (rows, columns)
    if weights.channels is None:
        made = result if result.shape == flat else context.temporary(flat, result, "rows")
        context.lowering.add(Operation.FULLY_CONNECTED, [x, weights, shift, fuse], [made])
    else:
        assert weights.data is not None
        points = context.reshaped(x, (rows, 1, 1, depth))
        weights.shape = (columns, 1, 1, depth)
        weights.data = weights.data.reshape(weights.shape)
        made = context.temporary((rows, 1, 1, columns), result, "points")
        inputs = [points, weights, shift, *_POINT.pad_operands(), *_POINT.stride_operands(), fuse,
                  scalar_bool(False, "nchw"), *_POINT.dilation_operands()]  # fmt: skip
        context.lowering.add(Operation.CONV_2D, inputs, [made])
    context.finish(result if made is result else context.reshaped(made, result.shape))


LOWERINGS.add({"MatMul": _matmul, "Gemm": _gemm})
