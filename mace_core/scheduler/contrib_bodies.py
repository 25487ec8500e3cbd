"""Operators of com.microsoft, and forms of old opsets, as operators of the standard.

Tried like the bodies of the standard's own functions: for nodes that no device claims, where all of what they are made
of is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, Graph, GraphView, Node, Value
from mace_core.scheduler.rewriting import BodyBuilder
from mace_core.tensor import DType

DOMAIN = "com.microsoft"
AXIS_BROADCASTING_UNTIL = 6
BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"})

Body = Callable[[BodyBuilder, Node], bool]
_BODIES: dict[str, Body] = {}


def contrib_body(view: GraphView, node: Node) -> Graph | None:
    """What stands for ``node``, or None where this module knows nothing."""
    builder = BodyBuilder(view, node)
    if node.domain == DOMAIN:
        body = _BODIES.get(node.op_type)
        return builder.graph if body is not None and body(builder, node) else None
    if not node.domain and view.opset() <= AXIS_BROADCASTING_UNTIL and _explicit_broadcasting(builder, node):
        return builder.graph
    return None


def _body(*op_types: str) -> Callable[[Body], Body]:
    def register(function: Body) -> Body:
        for op_type in op_types:
            _BODIES[op_type] = function
        return function

    return register


def _in(node: Node, index: int) -> Value:
    value = node.input(index)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks input {index}")
    return value


def _out(node: Node) -> Value:
    value = node.output(0)
    if value is None:
        raise ValueError(f"node '{node.name}' ({node.qualified_op}) lacks its output")
    return value


# --- old opsets -------------------------------------------------------------------------------------------------------


def _explicit_broadcasting(b: BodyBuilder, node: Node) -> bool:
    """Until opset 6 the second operand said where in the first it belongs."""
    if not (node.op_type in BROADCASTING and node.attr("broadcast", 0)) and node.op_type != "PRelu":
        return False
    first, second = _in(node, 0), _in(node, 1)
    ranks = [len(b.view.shape(value)) for value in (first, second)]
    axis = node.attr("axis", 1 if node.op_type == "PRelu" else None)
    if axis is None:
        return False
    missing = ranks[0] - ranks[1] - (axis + ranks[0] if axis < 0 else axis)
    if node.op_type == "PRelu" and (missing <= 0 or b.view.shape(second) == (1,)):
        return False
    kept = {key: value for key, value in node.attributes.items() if key not in ("axis", "broadcast")}
    spread = second
    if missing > 0 and b.view.shape(second) != (1,):
        spread = b.op("Unsqueeze", [second], {"axes": range(ranks[1], ranks[1] + missing)})
    b.op(node.op_type, [first, spread], kept, into=_out(node))
    return True


# --- activations ------------------------------------------------------------------------------------------------------


@_body("Gelu", "BiasGelu")
def _gelu(b: BodyBuilder, node: Node) -> bool:
    x = _in(node, 0)
    if node.op_type == "BiasGelu":
        x = b.op("Add", [x, _in(node, 1)])
    like = _in(node, 0)
    bent = b.op("Erf", [b.op("Mul", [x, b.scalar_like(math.sqrt(0.5), like)])])
    half = b.op("Mul", [x, b.scalar_like(0.5, like)])
    b.op("Mul", [half, b.op("Add", [bent, b.scalar_like(1.0, like)])], into=_out(node))
    return True


@_body("FastGelu")
def _fast_gelu(b: BodyBuilder, node: Node) -> bool:
    """The approximation by tanh."""
    like = x = _in(node, 0)
    bias = node.input(1)
    if bias is not None:
        x = b.op("Add", [x, bias])
    cubed = b.op("Mul", [b.op("Mul", [x, x]), x])
    inner = b.op("Add", [x, b.op("Mul", [cubed, b.scalar_like(0.044715, like)])])
    bent = b.op("Tanh", [b.op("Mul", [inner, b.scalar_like(math.sqrt(2.0 / math.pi), like)])])
    half = b.op("Mul", [x, b.scalar_like(0.5, like)])
    b.op("Mul", [half, b.op("Add", [bent, b.scalar_like(1.0, like)])], into=_out(node))
    return True


@_body("QuickGelu")
def _quick_gelu(b: BodyBuilder, node: Node) -> bool:
    x = _in(node, 0)
    gate = b.op("Sigmoid", [b.op("Mul", [x, b.scalar_like(float(node.attr("alpha", 1.702)), x)])])
    b.op("Mul", [x, gate], into=_out(node))
    return True


def _activated(b: BodyBuilder, node: Node, value: Value, into: Value) -> bool:
    """The fused activation; False for one that is not known."""
    name = node.attr("activation", "") or ""
    given = [float(number) for number in node.attr("activation_params", ()) or ()]
    if name == "LeakyRelu":
        # FusedConv has a list, FusedGemm a number, older forms of it another name
        alpha = given[0] if given else float(node.attr("activation_alpha", node.attr("leaky_relu_alpha", 0.01)))
        b.op("LeakyRelu", [value], {"alpha": alpha}, into=into)
    elif name == "Clip" and len(given) == 2:
        low = b.op("Max", [value, b.scalar_like(given[0], _in(node, 0))])
        b.op("Min", [low, b.scalar_like(given[1], _in(node, 0))], into=into)
    elif name == "HardSigmoid" and len(given) == 2:
        b.op("HardSigmoid", [value], {"alpha": given[0], "beta": given[1]}, into=into)
    elif name in ("Relu", "Tanh", "Sigmoid") or name == "":
        b.op(name or "Identity", [value], into=into)
    else:
        return False
    return True


def _kept(node: Node, *dropped: str) -> dict[str, Attribute]:
    return {key: value for key, value in node.attributes.items() if key not in dropped}


@_body("FusedConv")
def _fused_conv(b: BodyBuilder, node: Node) -> bool:
    value = b.op("Conv", [_in(node, 0), _in(node, 1), node.input(2)], _kept(node, "activation", "activation_params"))
    added = node.input(3)
    if added is not None:
        value = b.op("Add", [value, added])
    return _activated(b, node, value, _out(node))


@_body("FusedGemm")
def _fused_gemm(b: BodyBuilder, node: Node) -> bool:
    plain = {key: value for key, value in node.attributes.items() if key in ("alpha", "beta", "transA", "transB")}
    value = b.op("Gemm", [_in(node, 0), _in(node, 1), node.input(2)], plain)
    return _activated(b, node, value, _out(node))


# --- products ---------------------------------------------------------------------------------------------------------


def _transposed(b: BodyBuilder, value: Value, rank: int) -> Value:
    return b.op("Transpose", [value], {"perm": [*range(rank - 2), rank - 1, rank - 2]})


@_body("FusedMatMul", "TransposeMatMul")
def _fused_matmul(b: BodyBuilder, node: Node) -> bool:
    if node.attr("transBatchA", 0) or node.attr("transBatchB", 0):
        return False
    factors = []
    for index, name in enumerate(("transA", "transB")):
        value = _in(node, index)
        rank = len(b.view.shape(value))
        factors.append(_transposed(b, value, rank) if node.attr(name, 0) and rank > 1 else value)
    alpha = float(node.attr("alpha", 1.0))
    if alpha == 1.0:
        b.op("MatMul", factors, into=_out(node))
        return True
    b.op("Mul", [b.op("MatMul", factors), b.scalar_like(alpha, factors[0])], into=_out(node))
    return True


def _integer_product(b: BodyBuilder, factors: list[Value | None], scales: list[Value], bias: Value | None) -> Value:
    """MatMulInteger as float32, scaled, with a bias."""
    product = b.op("Cast", [b.op("MatMulInteger", factors)], {"to": DType.FLOAT32.value})
    scaled = b.op("Mul", [product, b.op("Mul", [scales[0], scales[1]])])
    return scaled if bias is None else b.op("Add", [scaled, bias])


@_body("MatMulIntegerToFloat")
def _matmul_to_float(b: BodyBuilder, node: Node) -> bool:
    factors = [node.input(index) for index in (0, 1, 4, 5)]
    value = _integer_product(b, factors, [_in(node, 2), _in(node, 3)], node.input(6))
    b.op("Identity", [value], into=_out(node))
    return True


@_body("DynamicQuantizeMatMul")
def _dynamic_matmul(b: BodyBuilder, node: Node) -> bool:
    data, scale, zero = b.several("DynamicQuantizeLinear", [_in(node, 0)], 3)
    value = _integer_product(b, [data, _in(node, 1), zero, node.input(3)], [scale, _in(node, 2)], node.input(4))
    b.op("Identity", [value], into=_out(node))
    return True


@_body("QGemm")
def _quantized_gemm(b: BodyBuilder, node: Node) -> bool:
    left = _transposed(b, _in(node, 0), 2) if node.attr("transA", 0) else _in(node, 0)
    right = _transposed(b, _in(node, 3), 2) if node.attr("transB", 0) else _in(node, 3)
    sums = b.op("MatMulInteger", [left, right, node.input(2), node.input(5)])
    bias = node.input(6)
    if bias is not None:
        sums = b.op("Add", [sums, bias])
    scale = b.op("Mul", [_in(node, 1), _in(node, 4)])
    alpha = float(node.attr("alpha", 1.0))
    if alpha != 1.0:
        scale = b.op("Mul", [scale, b.constant(alpha, np.float32)])
    value = b.op("Mul", [b.op("Cast", [sums], {"to": DType.FLOAT32.value}), scale])
    if node.input(7) is None:
        b.op("Identity", [value], into=_out(node))
    else:
        b.op("QuantizeLinear", [value, node.input(7), node.input(8)], into=_out(node))
    return True


@_body("MatMulNBits")
def _matmul_bits(b: BodyBuilder, node: Node) -> bool:
    """With constant weights: they are unpacked to floats once."""
    weights, scales, zeros = (b.view.constant(node.input(index)) for index in (1, 2, 3))
    if weights is None or scales is None or node.input(4) is not None:
        return False
    if node.input(3) is not None and zeros is None:
        return False
    unpacked = unpack_blocks(
        weights.numpy(),
        scales.numpy(),
        None if zeros is None else zeros.numpy(),
        rows=int(node.attr("K")),
        columns=int(node.attr("N")),
        bits=int(node.attr("bits", 4)),
        block=int(node.attr("block_size")),
    )
    product = [_in(node, 0), b.constant(unpacked)]
    bias = node.input(5)
    if bias is None:
        b.op("MatMul", product, into=_out(node))
    else:
        b.op("Add", [b.op("MatMul", product), bias], into=_out(node))
    return True


def unpack_blocks(
    weights: npt.NDArray[Any],
    scales: npt.NDArray[Any],
    zeros: npt.NDArray[Any] | None,
    *,
    rows: int,
    columns: int,
    bits: int,
    block: int,
) -> npt.NDArray[Any]:
    """The (rows, columns) matrix behind blocks of numbers of a few bits, lowest bits first.

    ``weights`` is (columns, blocks, bytes); each block along the rows has a scale and a zero point, by default the
    middle of the range.  Zero points are packed like the weights, or of the type of the scales.
    """
    blocks = -(-rows // block)
    numbers = _unpacked(weights.reshape(columns, blocks, -1), bits)[:, :, :block].astype(np.float32)
    if zeros is None:
        middle: Any = np.float32(1 << (bits - 1))
    elif zeros.dtype == np.uint8:
        middle = _unpacked(zeros.reshape(columns, -1), bits)[:, :blocks, None].astype(np.float32)
    else:
        middle = zeros.reshape(columns, blocks, 1).astype(np.float32)
    values = (numbers - middle) * scales.reshape(columns, blocks, 1).astype(np.float32)
    matrix = values.reshape(columns, blocks * block)[:, :rows].T
    return np.ascontiguousarray(matrix.astype(scales.dtype))


def _unpacked(data: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Numbers of ``bits`` bits from the bytes of the last axis."""
    if bits == 8:
        return data
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    spread = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return spread.reshape(*data.shape[:-1], -1)


# --- quantised operators: computed between DequantizeLinear and QuantizeLinear ----------------------------------------


def _floats(b: BodyBuilder, node: Node, first: int) -> Value:
    """The float behind the quantised input at ``first``, whose scale and zero point follow it."""
    return b.op("DequantizeLinear", [_in(node, first), _in(node, first + 1), node.input(first + 2)])


def _quantize(b: BodyBuilder, node: Node, value: Value, scale: int) -> bool:
    b.op("QuantizeLinear", [value, _in(node, scale), node.input(scale + 1)], into=_out(node))
    return True


@_body("QLinearAdd", "QLinearMul")
def _quantized_binary(b: BodyBuilder, node: Node) -> bool:
    return _quantize(b, node, b.op(node.op_type[len("QLinear") :], [_floats(b, node, 0), _floats(b, node, 3)]), 6)


@_body("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearAveragePool", "QLinearGlobalAveragePool")
def _quantized_unary(b: BodyBuilder, node: Node) -> bool:
    if node.attr("channels_last", 0):
        return False
    plain = _kept(node, "channels_last", "opset")
    return _quantize(b, node, b.op(node.op_type[len("QLinear") :], [_floats(b, node, 0)], plain), 3)


@_body("QLinearConcat")
def _quantized_concat(b: BodyBuilder, node: Node) -> bool:
    parts = [_floats(b, node, first) for first in range(2, len(node.inputs), 3)]
    return _quantize(b, node, b.op("Concat", parts, _kept(node)), 0)


@_body("QLinearConv")
def _quantized_conv(b: BodyBuilder, node: Node) -> bool:
    if node.attr("channels_last", 0):
        return False
    b.op("QLinearConv", node.inputs, _kept(node, "channels_last"), into=_out(node))
    return True


@_body("QuantizeLinear", "DequantizeLinear", "Trilu")
def _same_name(b: BodyBuilder, node: Node) -> bool:
    b.op(node.op_type, node.inputs, _kept(node), into=_out(node))
    return True


# --- normalisation ----------------------------------------------------------------------------------------------------


@_body("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def _skip_norm(b: BodyBuilder, node: Node) -> bool:
    """Inputs: data, skip, scale, (shift,) bias; the sum that is normalised is the fourth output."""
    simple = node.op_type == "SkipSimplifiedLayerNormalization"
    if node.output(1) is not None or node.output(2) is not None:
        return False
    bias, total = node.input(3 if simple else 4), node.output(3)
    summed = b.op("Add", [_in(node, 0), _in(node, 1)], into=None if bias is not None else total)
    if bias is not None:
        summed = b.op("Add", [summed, bias], into=total)
    epsilon = {"epsilon": float(node.attr("epsilon", 1e-12)), "axis": -1}
    if simple:
        b.op("SimplifiedLayerNormalization", [summed, _in(node, 2)], epsilon, into=_out(node))
    else:
        b.op("LayerNormalization", [summed, _in(node, 2), node.input(3)], epsilon, into=_out(node))
    return True
