"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS


def _matmul(context: NodeContext) -> None:
    left, right = context.shape(0), context.shape(1)
    if len(right) == 2 and len(left) >= 2 and context.is_constant(1) and context.is_quantized:
        _fully_connected_rows(context, left, right)
        return
    if len(left) == 1 or len(right) == 1:
        _matmul_vector(context, left, right)
        return
    context.emit("MatMul", [context.x(0), context.x(1)])


def _fully_connected_rows(context: NodeContext, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Quantized weights per channel are taken by FullyConnected only, which knows two dimensions."""
    rows = context.reshaped(context.x(0), (math.prod(left[:-1]), left[-1]))
    weights = context.weight(1, (1, 0))
    if len(left) == 2:
        context.emit("FullyConnected", [rows, weights])
        return
    result = context.result_tensor()
    flat = context.temporary((math.prod(left[:-1]), right[1]), result, "rows")
    context.lowering.add("FullyConnected", [rows, weights], [flat])
    context.lowering.add("Reshape", [flat], [result])
    context.finish(result)


def _matmul_vector(context: NodeContext, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """A vector on either side is a matrix with one row or column, which the result does not have."""
    a = context.reshaped(context.x(0), (1, *left) if len(left) == 1 else left)
    b = context.reshaped(context.x(1), (*right, 1) if len(right) == 1 else right)
    shape = list(context.out_shape())
    if len(right) == 1:
        shape.append(1)
    if len(left) == 1:
        shape.insert(len(shape) - 1, 1)
    result = context.result_tensor()
    matrix = context.temporary(shape, result, "matrix")
    context.lowering.add("MatMul", [a, b], [matrix])
    context.lowering.add("Reshape", [matrix], [result])
    context.finish(result)


def _gemm(context: NodeContext) -> None:
    alpha, beta = float(context.attr("alpha", 1.0)), float(context.attr("beta", 1.0))
    x = context.x(0, (1, 0) if context.attr("transA", 0) else (0, 1))
    if not context.is_constant(1):
        _gemm_computed(context, x, alpha, beta)
        return
    order = (0, 1) if context.attr("transB", 0) else (1, 0)
    if context.is_quantized:
        if alpha != 1.0 or beta != 1.0:
            raise DeclinedError("a quantized Gemm with alpha or beta is not offered")
        weights = context.weight(1, order)
    else:
        array = context.array(1)
        assert array is not None
        weights = context.constant((np.transpose(array, order) * alpha).astype(array.dtype), "weights")
    if not context.has(2):
        context.emit("FullyConnected", [x, weights])
        return
    shape, columns = context.shape(2), context.out_shape()[1]
    if context.is_constant(2) and math.prod(shape) == columns and shape[-1:] == (columns,):
        context.emit("FullyConnected", [x, weights, _bias(context, beta, columns)])
        return
    if context.is_quantized:
        raise DeclinedError("a quantized Gemm is offered with one bias per column only")
    result = context.result_tensor()
    product = context.temporary(result.shape, result, "product")
    context.lowering.add("FullyConnected", [x, weights], [product])
    addend = context.x(2)
    if beta != 1.0:
        factor = context.constant(np.array([beta], context.dtype().numpy), "beta")
        scaled = context.temporary(addend.shape, addend, "scaled")
        context.lowering.add("ElementWiseMultiply", [addend, factor], [scaled])
        addend = scaled
    context.lowering.add("ElementWiseAdd", [product, addend], [result])
    context.finish(result)


def _gemm_computed(context: NodeContext, x: QTensor, alpha: float, beta: float) -> None:
    """With weights computed at run time."""
    if context.is_quantized:
        raise DeclinedError("a quantized Gemm with weights computed at run time is not offered")
    chain, out = Chain(context), context.out_shape()
    weights = context.x(1, (1, 0) if context.attr("transB", 0) else (0, 1))
    found = chain.shaped("MatMul", (x, weights), out, x.data_type)
    if alpha != 1.0:
        found = chain.op("ElementWiseMultiply", found, chain.number(alpha, found))
    if context.has(2):
        addend = context.x(2)
        if beta != 1.0:
            addend = chain.op("ElementWiseMultiply", addend, chain.number(beta, addend))
        found = chain.op("ElementWiseAdd", found, addend)
    context.emit("Reshape", [found])


def _bias(context: NodeContext, beta: float, columns: int) -> QTensor:
    if context.is_quantized:
        return context.weight(2, tuple(range(len(context.shape(2)))), (columns,))
    array = context.array(2)
    assert array is not None
    return context.constant((array.reshape(columns) * beta).astype(array.dtype), "bias")


LOWERINGS.add({"MatMul": _matmul, "Gemm": _gemm})
