"""Attention and rotary embeddings of the standard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import Ints, NodeContext, NodeShapes, ShapeMismatchError
from mace_core.operators.independence import AxesContext, Lane
from mace_core.operators.registry import agreement, independent_axes, shape_function, work_estimate
from mace_core.tensor import TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


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


@shape_function("RotaryEmbedding")
def rotary_embedding(ctx: NodeContext) -> Sequence[ValueType]:
    return [ctx.type(0)]


# --- independent axes -------------------------------------------------------------------------------------------------


@independent_axes("Attention")
def batch_of_attention(ctx: AxesContext) -> Iterator[Lane]:
    places = [(index, 0) for index in (0, 1, 2, 4, 5, 6) if ctx.has(index)]
    if ctx.has(3) and len(ctx.shape(3)) == 4 and ctx.shape(3)[0] == ctx.shape(0)[0]:
        places.append((3, 0))
    yield Lane(tuple(places), tuple((output, 0) for output in ctx.outputs))


@independent_axes("RotaryEmbedding")
def rotated_places(ctx: AxesContext) -> Iterator[Lane]:
    """Batch and sequence; of position ids, or, where there are none, of the angles."""
    told = [(3, 0)] if ctx.has(3) else [(1, 0), (2, 0)]
    sequence = 1 if len(ctx.shape(0)) == 3 else 2
    yield Lane(((0, 0), *told), ((0, 0),))
    yield Lane(((0, sequence), *((index, 1) for index, _ in told)), ((0, sequence),))


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("Attention")
def check_attention(ctx: NodeContext) -> None:
    flat = len(ctx.shape(0)) == 3
    heads = [ctx.attr("q_num_heads", 0), ctx.attr("kv_num_heads", 0)]
    if any(len(ctx.shape(i)) not in (3, 4) or (len(ctx.shape(i)) == 3) != flat for i in range(3)):
        raise ShapeMismatchError("Q, K and V must all have 3 axes, or all 4")
    if flat and min(heads) < 1:
        raise ShapeMismatchError("q_num_heads and kv_num_heads must be given and positive for inputs of 3 axes")
    sizes = [ctx.shape(i)[-1] // (heads[min(i, 1)] if flat else 1) for i in range(3)]
    require(sizes[0] == sizes[1], f"queries of {sizes[0]} elements meet keys of {sizes[1]}")
    batch, grouped = ctx.shape(1)[0], heads[1] if flat else ctx.shape(1)[1]
    require(ctx.has(4) == ctx.has(5), "past keys and past values must be given together")
    if ctx.has(4):
        past = expect_rank(ctx, 4, 4, "the past keys")[2]
        expect(ctx, 4, (batch, grouped, past, sizes[1]), what="the past keys")
        expect(ctx, 5, (batch, grouped, past, sizes[2]), what="the past values")
    if ctx.has(3):
        query, mask = ctx.shape(0), ctx.shape(3)
        total = (ctx.shape(4)[2] if ctx.has(4) else 0) + ctx.shape(1)[1 if flat else 2]
        scores = (batch, heads[0] if flat else query[1], query[1 if flat else 2], total)
        fits = len(mask) <= 4 and all(
            own in (1, other) or (place == 0 and own < other)
            for place, (own, other) in enumerate(zip(reversed(mask), reversed(scores), strict=False))
        )
        require(fits, f"the mask {list(mask)} does not broadcast to {list(scores)} (batch, heads, queries, keys)")
    expect(ctx, 6, (batch,), what="the number of keys that count, one for each batch,")


@agreement("RotaryEmbedding")
def check_rotary_embedding(ctx: NodeContext) -> None:
    data, heads = ctx.shape(0), ctx.attr("num_heads", 0)
    if len(data) not in (3, 4):
        raise ShapeMismatchError("the data must be (batch, heads, rows, size) or (batch, rows, heads * size)")
    if len(data) == 3:
        require(heads > 0 and data[2] % heads == 0, f"num_heads {heads} must divide {data[2]} elements")
    batch, rows = (data[0], data[2]) if len(data) == 4 else (data[0], data[1])
    size = data[3] if len(data) == 4 else data[2] // heads
    turned = ctx.attr("rotary_embedding_dim", 0) or size
    require(0 < turned <= size and turned % 2 == 0, f"{turned} of {size} elements cannot be turned in pairs")
    expect(ctx, 2, ctx.shape(1), what="the sines, as the cosines,")
    if ctx.has(3):
        caches = expect_rank(ctx, 1, 2, "the cosines")
        require(caches[1] == turned // 2, f"the cosines must be (positions, {turned // 2}), not {list(caches)}")
        expect(ctx, 3, (batch, rows), what="the positions")
    else:
        expect(ctx, 1, (batch, rows, turned // 2), what="the cosines")


# --- work -------------------------------------------------------------------------------------------------------------


@work_estimate("Attention")
def attention_work(shapes: NodeShapes) -> int | None:
    """Queries (batch, heads, rows, size) or (batch, rows, heads * size) against keys, and scores against values."""
    query, key, value, past = (shapes.input(index) for index in (0, 1, 2, 4))
    if query is None or key is None or value is None:
        return None
    rows = math.prod(query[:-2]) * query[-2] * query[-1]
    columns = key[-2] + (past[2] if past is not None and len(past) == 4 else 0)
    return 2 * rows * columns
