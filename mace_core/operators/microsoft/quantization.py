"""Quantized operators that exporters and onnxruntime write."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.operators.attributes.ranks import check_window
from mace_core.operators.bodies import BodyBuilder, given, kept, made
from mace_core.operators.checks import require
from mace_core.operators.context import NodeContext, ShapeMismatchError, broadcast, normalize_axis, same_as_first
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.checks import expect_ones
from mace_core.operators.pieces import channels_first, channels_last, shaped, turned
from mace_core.operators.quantized_operands import expect_operand, expect_result_like_first
from mace_core.operators.registry import agreement, body, rank_check, shape_function
from mace_core.operators.standard.convolution import check_qlinear_conv
from mace_core.operators.standard.convolution import qlinear_conv as standard_qlinear_conv
from mace_core.operators.standard.pooling import global_pool, pool
from mace_core.operators.standard.quantization import (
    check_quantized_along,
    dequantize,
    quantize,
    real_dtype,
    stored_dtype,
)
from mace_core.operators.standard.windows import window_outputs
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

rank_check("NhwcMaxPool", "QLinearAveragePool", "QLinearConv", domain=DOMAIN)(check_window)


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax", domain=DOMAIN)(same_as_first)


@shape_function("QLinearAdd", "QLinearMul", domain=DOMAIN)
def qlinear_binary(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), broadcast(ctx.shape(0), ctx.shape(3)))]


@shape_function("QLinearAveragePool", domain=DOMAIN)
def qlinear_average_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    return nhwc_pool(ctx) if ctx.attr("channels_last", 0) else pool(ctx)[:1]


@shape_function("NhwcMaxPool", domain=DOMAIN)
def nhwc_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, kernel = ctx.shape(0), ctx.attr("kernel_shape")
    if len(shape) < 3 or kernel is None:
        raise ShapeMismatchError("data (N, …, C) of at least 3 axes and the attribute 'kernel_shape' are required")
    spatial = window_outputs(ctx, shape[1:-1], tuple(kernel), ceil_mode=bool(ctx.attr("ceil_mode", 0)))
    return [TensorType(ctx.dtype(0), (shape[0], *spatial, shape[-1]))]


@shape_function("QLinearGlobalAveragePool", domain=DOMAIN)
def qlinear_global_average_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    if not ctx.attr("channels_last", 0):
        return global_pool(ctx)
    shape = ctx.shape(0)
    return [TensorType(ctx.dtype(0), (shape[0], *(1,) * (len(shape) - 2), shape[-1]))]


@shape_function("QLinearConv", domain=DOMAIN, dtypes=lambda ctx: [ctx.dtype(7)])
def qlinear_conv(ctx: NodeContext) -> Sequence[ValueType | None]:
    if not ctx.attr("channels_last", 0):
        return standard_qlinear_conv(ctx)
    shape, filters = ctx.shape(0), ctx.shape(3)
    if len(shape) < 3 or len(filters) != len(shape) or shape[-1] != filters[1] * ctx.attr("group", 1):
        raise ShapeMismatchError("data (N, …, C) and weights (M, C/group, …) do not fit")
    spatial = window_outputs(ctx, shape[1:-1], filters[2:])
    return [TensorType(ctx.dtype(7), (shape[0], *spatial, filters[0]))]


@shape_function("QLinearWhere", domain=DOMAIN, dtypes=lambda ctx: [ctx.dtype(1)])
def qlinear_where(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(1), broadcast(ctx.shape(0), ctx.shape(1), ctx.shape(4)))]


@shape_function("QLinearConcat", domain=DOMAIN, dtypes=lambda ctx: [ctx.dtype(1)])
def qlinear_concat(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Inputs: output scale, output zero point, then (tensor, scale, zero point) for each part."""
    shapes = [ctx.shape(i) for i in range(2, ctx.input_count, 3)]
    axis = normalize_axis(ctx.attr("axis", 0), len(shapes[0]))
    total = sum(shape[axis] for shape in shapes)
    return [TensorType(ctx.dtype(1), (*shapes[0][:axis], total, *shapes[0][axis + 1 :]))]


shape_function("QuantizeLinear", domain=DOMAIN, dtypes=lambda ctx: [stored_dtype(ctx)])(quantize)
shape_function("DequantizeLinear", domain=DOMAIN, dtypes=lambda ctx: [real_dtype(ctx)])(dequantize)


# --- agreement --------------------------------------------------------------------------------------------------------

agreement("QLinearConv", domain=DOMAIN)(check_qlinear_conv)


@agreement("QLinearAdd", "QLinearMul", domain=DOMAIN)
def check_quantized_pair(ctx: NodeContext) -> None:
    expect_ones(ctx, (1, 2, 4, 5, 6, 7))
    expect_operand(ctx, "A", data=0, scale=1, zero=2)
    expect_operand(ctx, "B", data=3, scale=4, zero=5)
    expect_result_like_first(ctx, 6, 7)


@agreement(
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    domain=DOMAIN,
)
def check_quantized_single(ctx: NodeContext) -> None:
    expect_ones(ctx, (1, 2, 3, 4))
    expect_operand(ctx, "the data", data=0, scale=1, zero=2)
    expect_result_like_first(ctx, 3, 4)


@agreement("QLinearWhere", domain=DOMAIN)
def check_quantized_choice(ctx: NodeContext) -> None:
    expect_ones(ctx, (2, 3, 5, 6, 7, 8))
    expect_operand(ctx, "X", data=1, scale=2, zero=3)
    expect_operand(ctx, "Y", data=4, scale=5, zero=6)
    expect_operand(ctx, "the result", data=1, scale=7, zero=8)


@agreement("QLinearConcat", domain=DOMAIN)
def check_quantized_parts(ctx: NodeContext) -> None:
    require(ctx.input_count % 3 == 2, "each part is a tensor, its scale and its zero point")
    expect_ones(ctx, (0, 1))
    expect_operand(ctx, "the result", data=None, scale=0, zero=1)
    for part, first in enumerate(range(2, ctx.input_count, 3)):
        expect_ones(ctx, (first + 1, first + 2))
        require(
            ctx.dtype(first) is ctx.dtype(1),
            f"the zero point of the result must be {ctx.dtype(first).label}, as part {part}, not {ctx.dtype(1).label}",
        )
        expect_operand(ctx, f"part {part}", data=first, scale=first + 1, zero=first + 2)


agreement("QuantizeLinear", "DequantizeLinear", domain=DOMAIN)(check_quantized_along)


# --- bodies -----------------------------------------------------------------------------------------------------------


def _floats(b: BodyBuilder, node: Node, first: int) -> Value:
    """The float behind the quantized input at ``first``, whose scale and zero point follow it."""
    return b.op("DequantizeLinear", [given(node, first), given(node, first + 1), node.input(first + 2)])


def _quantize(b: BodyBuilder, node: Node, value: Value, scale: int) -> bool:
    b.op("QuantizeLinear", [value, given(node, scale), node.input(scale + 1)], into=made(node))
    return True


@body("QLinearAdd", "QLinearMul", domain=DOMAIN)
def build_quantized_binary(b: BodyBuilder, node: Node) -> bool:
    return _quantize(b, node, b.op(node.op_type[len("QLinear") :], [_floats(b, node, 0), _floats(b, node, 3)]), 6)


@body("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QLinearGlobalAveragePool", domain=DOMAIN)
def build_quantized_unary(b: BodyBuilder, node: Node) -> bool:
    """Pools may have their channels last, as onnxruntime lays out quantized networks."""
    last = bool(node.attr("channels_last", 0))
    value = _floats(b, node, 0)
    rank = len(b.view.shape(given(node, 0)))
    if last:
        value = turned(b, value, channels_first(rank))
    value = b.op(node.op_type[len("QLinear") :], [value], kept(node, "channels_last"))
    return _quantize(b, node, turned(b, value, channels_last(rank)) if last else value, 3)


@body("QLinearSoftmax", domain=DOMAIN)
def build_quantized_softmax(b: BodyBuilder, node: Node) -> bool:
    """Until opset 13, which the node names itself, the softmax is over all axes from the given one on."""
    shape = b.view.shape(given(node, 0))
    axis = int(node.attr("axis", -1)) % len(shape)
    value = _floats(b, node, 0)
    if int(node.attr("opset", b.opset)) < 13:
        rows = math.prod(shape[:axis])
        value = b.op("Softmax", [shaped(b, value, (rows, math.prod(shape[axis:])))], {"axis": 1})
        return _quantize(b, node, shaped(b, value, shape), 3)
    if b.opset < 13 and axis != len(shape) - 1:
        return False
    return _quantize(b, node, b.op("Softmax", [value], {"axis": axis}), 3)


@body("QLinearWhere", domain=DOMAIN)
def build_quantized_where(b: BodyBuilder, node: Node) -> bool:
    return _quantize(b, node, b.op("Where", [given(node, 0), _floats(b, node, 1), _floats(b, node, 4)]), 7)


@body("QLinearConcat", domain=DOMAIN)
def build_quantized_concat(b: BodyBuilder, node: Node) -> bool:
    parts = [_floats(b, node, first) for first in range(2, len(node.inputs), 3)]
    return _quantize(b, node, b.op("Concat", parts, kept(node)), 0)


@body("QLinearConv", domain=DOMAIN)
def build_quantized_conv(b: BodyBuilder, node: Node) -> bool:
    plain = kept(node, "channels_last")
    if not node.attr("channels_last", 0):
        b.op("QLinearConv", node.inputs, plain, into=made(node))
        return True
    rank = len(b.view.shape(given(node, 0)))
    value = turned(b, given(node, 0), channels_first(rank))
    turned(b, b.op("QLinearConv", [value, *node.inputs[1:]], plain), channels_last(rank), into=made(node))
    return True


@body("NhwcMaxPool", domain=DOMAIN)
def build_max_pool(b: BodyBuilder, node: Node) -> bool:
    rank = len(b.view.shape(given(node, 0)))
    value = turned(b, given(node, 0), channels_first(rank))
    turned(b, b.op("MaxPool", [value], kept(node)), channels_last(rank), into=made(node))
    return True


@body("QuantizeLinear", "DequantizeLinear", "Trilu", "GatherND", domain=DOMAIN)
def build_same_name(b: BodyBuilder, node: Node) -> bool:
    b.op(node.op_type, node.inputs, kept(node), into=made(node))
    return True
