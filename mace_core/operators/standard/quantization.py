"""Quantization and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph.computed import ComputedTensor
from mace_core.operators.checks import expect, require
from mace_core.operators.context import NodeContext
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
    _check_scales(ctx)
    if ctx.has(2):
        zero = ctx.dtype(2)
        is_stored = zero.bits <= 16 if zero.is_integer else zero.bits <= 8
        if ctx.node.op_type == "DequantizeLinear":
            is_stored = is_stored or zero is DType.INT32
        require(is_stored, f"a zero point of {zero.label} stands for no quantized number")
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


def _check_scales(ctx: NodeContext) -> None:
    """Refuse constant scales with which no number has a meaning; those that are computed are what they are."""
    value = ctx.node.inputs[1]
    constant = None if value is None else value.constant
    if constant is None or isinstance(constant, ComputedTensor):
        return
    scales = constant.numpy().astype(np.float32)
    wrong = ~((scales > 0) & (scales < np.inf))
    if wrong.any():
        require(False, f"a scale is a positive finite number, not {scales[wrong].reshape(-1)[0]:g}")
