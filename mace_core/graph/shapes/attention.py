"""Attention blocks."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import TensorType, ValueType


def _by_heads(shape: Ints, heads: int | None) -> Ints:
    """(batch, heads, rows, size) of an input that may come as (batch, rows, heads * size)."""
    if len(shape) == 4:
        return shape
    if len(shape) != 3 or not heads or shape[2] % heads:
        raise ShapeMismatchError(
            f"{list(shape)} must be (batch, heads, rows, size), or (batch, rows, heads * size) with the number of "
            "heads given as an attribute"
        )
    return (shape[0], heads, shape[1], shape[2] // heads)


@shape_function("Attention")
def attention(ctx: NodeContext) -> Sequence[ValueType]:
    """Y as Q is given, with V's size; present keys and values with the past in front; scores (batch, heads, q, k)."""
    flat = len(ctx.shape(0)) == 3
    batch, heads, rows, _ = _by_heads(ctx.shape(0), ctx.attr("q_num_heads"))
    key = _by_heads(ctx.shape(1), ctx.attr("kv_num_heads"))
    value = _by_heads(ctx.shape(2), ctx.attr("kv_num_heads"))
    if heads % key[1] or key[:3] != value[:3] or key[0] != batch:
        raise ShapeMismatchError(
            f"keys {list(key)} and values {list(value)} must agree in batch, heads and rows, and the {heads} query "
            "heads must be a multiple of theirs"
        )
    total = key[2] + (ctx.shape(4)[2] if ctx.has(4) else 0)
    result = (batch, rows, heads * value[3]) if flat else (batch, heads, rows, value[3])
    return [
        TensorType(ctx.dtype(0), result),
        TensorType(ctx.dtype(1), (*key[:2], total, key[3])),
        TensorType(ctx.dtype(2), (*value[:2], total, value[3])),
        TensorType(ctx.dtype(0), (batch, heads, rows, total)),
    ]


@shape_function("FlexAttention", domain="ai.onnx.preview")
def flex_attention(ctx: NodeContext) -> Sequence[ValueType]:
    """Q (batch, heads, rows, size), V (batch, heads, columns, values) -> (batch, heads, rows, values)."""
    query, value = ctx.shape(0), ctx.shape(2)
    if len(query) != 4 or len(value) != 4:
        raise ShapeMismatchError("Q, K and V must have 4 axes")
    return [TensorType(ctx.dtype(0), (*query[:3], value[3]))]


@shape_function("RotaryEmbedding")
def rotary_embedding(ctx: NodeContext) -> Sequence[ValueType]:
    return [ctx.type(0)]
