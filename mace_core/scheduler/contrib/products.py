"""Matrix products and convolutions, plain and of whole numbers."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.scheduler.contrib.activation import activated
from mace_core.scheduler.contrib.registry import body, given, kept, made, transposed
from mace_core.scheduler.rewriting import BodyBuilder
from mace_core.tensor import DType


@body("FusedConv")
def _fused_conv(b: BodyBuilder, node: Node) -> bool:
    value = b.op("Conv", [given(node, 0), given(node, 1), node.input(2)], kept(node, "activation", "activation_params"))
    added = node.input(3)
    if added is not None:
        value = b.op("Add", [value, added])
    return activated(b, node, value, made(node))


@body("FusedGemm")
def _fused_gemm(b: BodyBuilder, node: Node) -> bool:
    plain = {key: value for key, value in node.attributes.items() if key in ("alpha", "beta", "transA", "transB")}
    value = b.op("Gemm", [given(node, 0), given(node, 1), node.input(2)], plain)
    return activated(b, node, value, made(node))


@body("FusedMatMul", "TransposeMatMul")
def _fused_matmul(b: BodyBuilder, node: Node) -> bool:
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


@body("MatMulIntegerToFloat")
def _matmul_to_float(b: BodyBuilder, node: Node) -> bool:
    factors = [node.input(index) for index in (0, 1, 4, 5)]
    value = integer_product(b, factors, [given(node, 2), given(node, 3)], node.input(6))
    b.op("Identity", [value], into=made(node))
    return True


@body("DynamicQuantizeMatMul")
def _dynamic_matmul(b: BodyBuilder, node: Node) -> bool:
    data, scale, zero = b.several("DynamicQuantizeLinear", [given(node, 0)], 3)
    value = integer_product(b, [data, given(node, 1), zero, node.input(3)], [scale, given(node, 2)], node.input(4))
    b.op("Identity", [value], into=made(node))
    return True


@body("QGemm")
def _quantized_gemm(b: BodyBuilder, node: Node) -> bool:
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
