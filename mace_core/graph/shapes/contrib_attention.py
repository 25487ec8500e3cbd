"""Attention and embeddings of com.microsoft."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import DType, TensorType, ValueType

_DOMAIN = "com.microsoft"


@shape_function("Attention", domain=_DOMAIN)
def attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, V) and (2, B, N, P + S, H); the past is input 4."""
    return _projected(ctx, ctx.dtype(0), 4)


@shape_function("QAttention", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(2)] * 2)
def quantized_attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    return _projected(ctx, ctx.dtype(2), 8)


def _projected(ctx: NodeContext, dtype: DType, past: int) -> Sequence[ValueType | None]:
    if len(ctx.shape(0)) != 3 or len(ctx.shape(1)) != 2 or ctx.shape(0)[2] != ctx.shape(1)[0]:
        raise ShapeMismatchError("the input must be (batch, rows, width) and the weights (width, all projections)")
    batch, rows, _ = ctx.shape(0)
    width = ctx.shape(1)[1]
    sizes = tuple(ctx.attr("qkv_hidden_sizes") or ()) or (width // 3,) * 3
    earlier = ctx.shape(past)[3] if ctx.has(past) else 0
    heads = ctx.attr("num_heads")
    present = (2, batch, heads, earlier + rows, sizes[0] // heads)
    return [TensorType(dtype, (batch, rows, sizes[2])), TensorType(dtype, present)]


@shape_function("MultiHeadAttention", domain=_DOMAIN)
def multi_head_attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, N V), the present (B, N, T, H) and (B, N, T, V), and scores (B, N, S, T)."""
    heads, dtype, query = ctx.attr("num_heads"), ctx.dtype(0), ctx.shape(0)
    batch, rows = query[:2]
    if len(query) == 5:
        keys = values = (rows, query[4])
    elif not ctx.has(1):
        raise ShapeMismatchError("queries that are not packed with keys and values need these")
    else:
        keys = _side(ctx.shape(1), heads)
        values = _side(ctx.shape(2), heads) if ctx.has(2) else keys
    total = keys[0] + (ctx.shape(6)[2] if ctx.has(6) else 0)
    return [
        TensorType(dtype, (batch, rows, heads * values[1])),
        TensorType(dtype, (batch, heads, total, keys[1])),
        TensorType(dtype, (batch, heads, total, values[1])),
        TensorType(dtype, (batch, heads, rows, total)),
    ]


def _side(shape: Ints, heads: int) -> tuple[int, int]:
    """(rows, elements of a head) of (B, T, N H), of a packed pair (B, T, N, 2, H), and of (B, N, T, H)."""
    if len(shape) == 4:
        return shape[2], shape[3]
    return shape[1], shape[4] if len(shape) == 5 else shape[2] // heads


@shape_function("GroupQueryAttention", domain=_DOMAIN)
def group_query_attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, N H); the present is as long as the past, or the total that input 6 gives where that is more."""
    batch, rows, width = ctx.shape(0)
    heads, groups = ctx.attr("num_heads"), ctx.attr("kv_num_heads")
    size = width // heads if ctx.has(1) else width // (heads + 2 * groups)
    total = max(ctx.ints(6)[0], ctx.shape(3)[2] if ctx.has(3) else 0)
    present = TensorType(ctx.dtype(0), (batch, groups, total, size))
    scores = TensorType(ctx.dtype(0), (batch, heads, rows, total))
    return [TensorType(ctx.dtype(0), (batch, rows, heads * size)), present, present, scores]


def _embedded_dtypes(ctx: NodeContext) -> Sequence[DType | None]:
    return [ctx.dtype(2), DType.INT32, ctx.dtype(2)]


@shape_function("EmbedLayerNormalization", domain=_DOMAIN, dtypes=_embedded_dtypes)
def embed_layer_normalization(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, width), the number of words of each row that are no padding, and what was normalised."""
    batch, rows = ctx.shape(0)
    result = TensorType(ctx.dtype(2), (batch, rows, ctx.shape(2)[1]))
    return [result, TensorType(DType.INT32, (batch,)), result]
