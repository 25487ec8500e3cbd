"""Quantise and dequantise."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import NodeContext
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType


def _stored_dtype(ctx: NodeContext) -> DType:
    if ctx.has(2):
        return ctx.dtype(2)
    return DType(ctx.attr("output_dtype", 0) or DType.UINT8.value)


def _real_dtype(ctx: NodeContext) -> DType:
    chosen = ctx.attr("output_dtype", 0)
    return DType(chosen) if chosen else ctx.dtype(1)


def quantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_stored_dtype(ctx), ctx.shape(0))]


def dequantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [TensorType(_real_dtype(ctx), ctx.shape(0))]


for _domain in ("", "com.microsoft"):
    shape_function("QuantizeLinear", domain=_domain, dtypes=lambda ctx: [_stored_dtype(ctx)])(quantize)
    shape_function("DequantizeLinear", domain=_domain, dtypes=lambda ctx: [_real_dtype(ctx)])(dequantize)


@shape_function("DynamicQuantizeLinear", dtypes=lambda ctx: [DType.UINT8, DType.FLOAT32, DType.UINT8])
def dynamic_quantize(ctx: NodeContext) -> Sequence[ValueType]:
    return [
        TensorType(DType.UINT8, ctx.shape(0)),
        TensorType(DType.FLOAT32, ()),
        TensorType(DType.UINT8, ()),
    ]
