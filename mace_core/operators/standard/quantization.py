"""Quantization and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import BodyBuilder, given, kept, made
from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext
from mace_core.operators.quantized_operands import expect_scale, expect_zero_point
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


def stored_dtype(ctx: NodeContext) -> DType:
    """The element type that QuantizeLinear gives."""
    if ctx.has(2):
        return ctx.dtype(2)
    return DType(ctx.attr("output_dtype", 0) or DType.UINT8.value)


def real_dtype(ctx: NodeContext) -> DType:
    """The element type that DequantizeLinear gives."""
    chosen = ctx.attr("output_dtype", 0)
    return DType(chosen) if chosen else ctx.dtype(1)


@shape_function("QuantizeLinear", dtypes=lambda ctx: [stored_dtype(ctx)])
def quantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(stored_dtype(ctx), ctx.shape(0))]


@shape_function("DequantizeLinear", dtypes=lambda ctx: [real_dtype(ctx)])
def dequantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(real_dtype(ctx), ctx.shape(0))]


@shape_function("DynamicQuantizeLinear", dtypes=lambda ctx: [DType.UINT8, DType.FLOAT32, DType.UINT8])
def dynamic_quantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [
        TensorType(DType.UINT8, ctx.shape(0)),
        TensorType(DType.FLOAT32, ()),
        TensorType(DType.UINT8, ()),
    ]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("QuantizeLinear", "DequantizeLinear")
def check_quantized_along(ctx: NodeContext) -> None:
    data, scale = ctx.shape(0), ctx.shape(1)
    is_single = not scale or (len(scale) == 1 and scale[0] == 1)
    expect(ctx, 2, *(((), (1,)) if is_single else (scale,)), what="the zero point, as the scale,")
    is_stored = ctx.node.op_type == "DequantizeLinear"
    expect_scale(ctx, 1, "the scale", may_be_any=is_stored and len(scale) > 1)
    expect_zero_point(ctx, 2, "the zero point", data=0 if is_stored else None)
    if is_single:
        return
    axis, block = ctx.attr("axis", 1), ctx.attr("block_size", 0)
    require(-len(data) <= axis < len(data), f"axis {axis} does not exist in {len(data)} dimensions")
    axis %= len(data)
    if len(scale) == 1 and not (block and len(data) == 1):
        require(scale[0] == data[axis], f"a scale of {scale[0]} elements does not fit axis {axis} of {data[axis]}")
        return
    require(len(scale) == len(data) and block > 0, f"a scale {list(scale)} in blocks of {block} does not fit the data")
    for position, (own, other) in enumerate(zip(scale, data, strict=True)):
        fits = own == other if position != axis else own > 0 and (not block or own == -(-other // block))
        require(
            fits or (position == axis and other == 0),
            f"a scale {list(scale)} in blocks of {block} does not fit axis {position} of the data",
        )


# --- bodies -----------------------------------------------------------------------------------------------------------

AXIS_SINCE = 13
"""Until then DequantizeLinear knew one scale for the whole tensor only."""


def reals(b: BodyBuilder, node: Node, first: int, axis: int = 0) -> Value | None:
    """The real numbers behind the integers at input ``first``, whose scale and zero point follow it.

    ``axis``: what the scale is along, if it has more than one element.  None where DequantizeLinear does not know that.
    """
    scale = given(node, first + 1)
    shape = b.view.shape(scale)
    operands = [given(node, first), scale, node.input(first + 2)]
    if all(size == 1 for size in shape):
        return b.op("DequantizeLinear", operands)
    if len(shape) > 1 or b.opset < AXIS_SINCE:
        return None
    return b.op("DequantizeLinear", operands, {"axis": axis})


def real_sums(b: BodyBuilder, sums: Value, scales: tuple[Value, Value], axis: int = 0) -> Value | None:
    """The real numbers behind a bias, which counts in products of both ``scales``."""
    known = [b.view.constant(scale) for scale in scales]
    first, second = known
    if first is None or second is None:
        product = b.op("Mul", list(scales))
    else:
        found = first.numpy().reshape(-1) * second.numpy().reshape(-1)
        product = b.constant(found if found.size > 1 else found.reshape(()), np.float32)
    if all(size == 1 for scale in scales for size in b.view.shape(scale)):
        return b.op("DequantizeLinear", [sums, product])
    return b.op("DequantizeLinear", [sums, product], {"axis": axis}) if b.opset >= AXIS_SINCE else None


def quantized(b: BodyBuilder, node: Node, value: Value, scale: int) -> bool:
    """``value`` in the encoding of the result, whose zero point follows its scale."""
    b.op("QuantizeLinear", [value, given(node, scale), node.input(scale + 1)], into=made(node))
    return True


@body("QLinearConv")
def build_quantized_conv(b: BodyBuilder, node: Node) -> bool:
    operands = [reals(b, node, 0), reals(b, node, 3)]
    bias = node.input(8)
    if bias is not None:
        operands.append(real_sums(b, bias, (given(node, 1), given(node, 4))))
    if any(operand is None for operand in operands):
        return False
    return quantized(b, node, b.op("Conv", operands, kept(node)), 6)


@body("QLinearMatMul")
def build_quantized_product(b: BodyBuilder, node: Node) -> bool:
    """Scales are along the columns of the second factor; along the rows of the first they are not known."""
    if any(size != 1 for size in b.view.shape(given(node, 1))):
        return False
    factors = [reals(b, node, 0), reals(b, node, 3, len(b.view.shape(given(node, 3))) - 1)]
    if any(factor is None for factor in factors):
        return False
    return quantized(b, node, b.op("MatMul", factors), 6)
