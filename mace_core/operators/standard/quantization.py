"""Quantization and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext
from mace_core.operators.quantized_operands import expect_scale, expect_zero_point
from mace_core.operators.registry import agreement, shape_function
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
