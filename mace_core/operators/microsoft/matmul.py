"""Matrix products with what is fused into them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import AttributeKind as K
from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import of_kind
from mace_core.operators.bodies import BodyBuilder, given, kept, made, transposed
from mace_core.operators.checks import expect, expect_fit, expect_rank, require
from mace_core.operators.context import Ints, NodeContext, same_as_first
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.activation import activated
from mace_core.operators.microsoft.checks import expect_ones
from mace_core.operators.quantized_operands import expect_operand
from mace_core.operators.registry import agreement, body, shape_function, work_estimate
from mace_core.operators.standard.matmul import gemm, gemm_macs, matmul_integer, matmul_macs, matmul_shape
from mace_core.operators.standard.quantization import quantized, real_sums, reals
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("FusedGemm", domain=DOMAIN, rules={"activation": of_kind(K.STRING)})


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("Inverse", domain=DOMAIN)(same_as_first)


shape_function("FusedGemm", domain=DOMAIN)(gemm)

shape_function("MatMulInteger16", domain=DOMAIN)(matmul_integer)


@shape_function("FusedMatMul", "TransposeMatMul", domain=DOMAIN)
def fused_matmul(ctx: NodeContext) -> Sequence[ValueType | None]:
    first = _arrange(ctx.shape(0), bool(ctx.attr("transA", 0)), bool(ctx.attr("transBatchA", 0)))
    second = _arrange(ctx.shape(1), bool(ctx.attr("transB", 0)), bool(ctx.attr("transBatchB", 0)))
    return [TensorType(ctx.dtype(0), matmul_shape(first, second))]


def _arrange(shape: Ints, transpose: bool, transpose_batch: bool) -> Ints:
    """The matrix (…, rows, columns) behind a factor whose axes may be stored in another order."""
    if len(shape) < 2:
        return shape
    if transpose_batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if transpose else shape


@shape_function("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain=DOMAIN, dtypes=lambda ctx: [DType.FLOAT32])
def matmul_to_float(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, matmul_shape(ctx.shape(0), ctx.shape(1)))]


@shape_function("QGemm", domain=DOMAIN, dtypes=lambda ctx: [_qgemm_dtype(ctx)])
def qgemm(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Inputs: A, its scale and zero point, B, its scale and zero point, C, output scale, output zero point."""
    first, second = ctx.shape(0), ctx.shape(3)
    left = first[::-1] if ctx.attr("transA", 0) else first
    right = second[::-1] if ctx.attr("transB", 0) else second
    return [TensorType(_qgemm_dtype(ctx), matmul_shape(left, right))]


def _qgemm_dtype(ctx: NodeContext) -> DType:
    return ctx.dtype(8) if ctx.has(8) else DType.FLOAT32


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("QGemm", domain=DOMAIN)
def check_quantized_gemm(ctx: NodeContext) -> None:
    first, second = expect_rank(ctx, 0, 2, "A"), expect_rank(ctx, 3, 2, "B")
    rows = first[1 if ctx.attr("transA", 0) else 0]
    columns = second[0 if ctx.attr("transB", 0) else 1]
    expect_ones(ctx, (1, 2, 7, 8))
    for index in (4, 5):
        expect(ctx, index, (), (1,), (columns,), what=f"input {index}, of B,")
    expect_fit(ctx, 6, (rows, columns), "C")
    expect_operand(ctx, "A", data=0, scale=1, zero=2)
    expect_operand(ctx, "B", data=3, scale=4, zero=5)
    expect_operand(ctx, "the result", data=None, scale=7, zero=8)


def _product_with_columns(ctx: NodeContext, scale: int, zero: int, bias: int) -> None:
    shape = ctx.shape(1)
    require(len(shape) >= 2, "B must have at least 2 axes")
    columns = shape[-1]
    for index, what in ((scale, "the scale of B"), (zero, "the zero point of B")):
        expect(ctx, index, (), (1,), (columns,), (*shape[:-2], 1, columns), what=what)
    expect(ctx, bias, (columns,), what="the bias")


@agreement("MatMulIntegerToFloat", domain=DOMAIN)
def check_product_of_bytes(ctx: NodeContext) -> None:
    expect_ones(ctx, (2, 4))
    _product_with_columns(ctx, 3, 5, 6)
    expect_operand(ctx, "A", data=0, scale=2, zero=4)
    expect_operand(ctx, "B", data=1, scale=3, zero=5)


@agreement("DynamicQuantizeMatMul", domain=DOMAIN)
def check_product_with_bytes(ctx: NodeContext) -> None:
    _product_with_columns(ctx, 2, 3, 4)
    expect_operand(ctx, "B", data=1, scale=2, zero=3)


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("FusedGemm", domain=DOMAIN)
def build_fused_gemm(b: BodyBuilder, node: Node) -> bool:
    plain = {key: value for key, value in node.attributes.items() if key in ("alpha", "beta", "transA", "transB")}
    value = b.op("Gemm", [given(node, 0), given(node, 1), node.input(2)], plain)
    return activated(b, node, value, made(node))


@body("FusedMatMul", "TransposeMatMul", domain=DOMAIN)
def build_fused_matmul(b: BodyBuilder, node: Node) -> bool:
    if node.attr("transBatchA", 0) or node.attr("transBatchB", 0):
        return False
    factors = []
    for index, name in enumerate(("transA", "transB")):
        value = given(node, index)
        rank = len(b.view.shape(value))
        factors.append(transposed(b, value, rank) if node.attr(name, 0) and rank > 1 else value)
    alpha = float(node.attr("alpha", 1.0))
    if alpha == 1.0:
        b.op("MatMul", factors, into=made(node))
        return True
    b.op("Mul", [b.op("MatMul", factors), b.scalar_like(alpha, factors[0])], into=made(node))
    return True


def integer_product(b: BodyBuilder, factors: list[Value | None], scales: list[Value], bias: Value | None) -> Value:
    """MatMulInteger as float32, scaled, with a bias."""
    product = b.op("Cast", [b.op("MatMulInteger", factors)], {"to": DType.FLOAT32.value})
    scaled = b.op("Mul", [product, b.op("Mul", [scales[0], scales[1]])])
    return scaled if bias is None else b.op("Add", [scaled, bias])


@body("MatMulIntegerToFloat", domain=DOMAIN)
def build_matmul_to_float(b: BodyBuilder, node: Node) -> bool:
    factors = [node.input(index) for index in (0, 1, 4, 5)]
    value = integer_product(b, factors, [given(node, 2), given(node, 3)], node.input(6))
    b.op("Identity", [value], into=made(node))
    return True


@body("DynamicQuantizeMatMul", domain=DOMAIN)
def build_dynamic_matmul(b: BodyBuilder, node: Node) -> bool:
    data, scale, zero = b.several("DynamicQuantizeLinear", [given(node, 0)], 3)
    value = integer_product(b, [data, given(node, 1), zero, node.input(3)], [scale, given(node, 2)], node.input(4))
    b.op("Identity", [value], into=made(node))
    return True


@body("QGemm", domain=DOMAIN)
def build_quantized_gemm(b: BodyBuilder, node: Node) -> bool:
    if _build_real_gemm(b, node):
        return True
    del b.graph.nodes[:]
    left = transposed(b, given(node, 0), 2) if node.attr("transA", 0) else given(node, 0)
    right = transposed(b, given(node, 3), 2) if node.attr("transB", 0) else given(node, 3)
    sums = b.op("MatMulInteger", [left, right, node.input(2), node.input(5)])
    bias = node.input(6)
    if bias is not None:
        sums = b.op("Add", [sums, bias])
    scale = b.op("Mul", [given(node, 1), given(node, 4)])
    alpha = float(node.attr("alpha", 1.0))
    if alpha != 1.0:
        scale = b.op("Mul", [scale, b.constant(alpha, np.float32)])
    value = b.op("Mul", [b.op("Cast", [sums], {"to": DType.FLOAT32.value}), scale])
    if node.input(7) is None:
        b.op("Identity", [value], into=made(node))
    else:
        b.op("QuantizeLinear", [value, node.input(7), node.input(8)], into=made(node))
    return True


def _build_real_gemm(b: BodyBuilder, node: Node) -> bool:
    """As a Gemm of real numbers between DequantizeLinear and QuantizeLinear, where the result is quantized."""
    bias, columns = node.input(6), 0 if node.attr("transB", 0) else 1
    if node.input(7) is None or float(node.attr("alpha", 1.0)) != 1.0:
        return False
    operands = [reals(b, node, 0), reals(b, node, 3, columns)]
    if bias is not None:
        rank = len(b.view.shape(bias))
        operands.append(real_sums(b, bias, (given(node, 1), given(node, 4)), rank - 1))
    if any(operand is None for operand in operands):
        return False
    return quantized(b, node, b.op("Gemm", operands, kept(node)), 7)


# --- work -------------------------------------------------------------------------------------------------------------

work_estimate("FusedMatMul", domain=DOMAIN, are_macs=True)(matmul_macs)
work_estimate("FusedGemm", domain=DOMAIN, are_macs=True)(gemm_macs)
