"""Attention with its projections, packed and unpacked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import count
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, expect_one, expect_rank
from mace_core.operators.context import Ints, NodeContext, ShapeMismatchError
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.matmul import integer_product
from mace_core.operators.microsoft.scores import Heads, Scoring, attend, causal_mask, key_mask
from mace_core.operators.pieces import cut, joined, shaped
from mace_core.operators.quantized_operands import expect_operand
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules(
    "Attention", "MultiHeadAttention", "QAttention", domain=DOMAIN, rules={"num_heads": count(required=True)}
)
attribute_rules("DecoderMaskedMultiHeadAttention", domain=DOMAIN, rules={"num_heads": count(required=True)})


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("Attention", domain=DOMAIN)
def attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, V) and (2, B, N, P + S, H); the past is input 4."""
    return _projected_types(ctx, ctx.dtype(0), 4)


@shape_function("QAttention", domain=DOMAIN, dtypes=lambda ctx: [ctx.dtype(2)] * 2)
def quantized_attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    return _projected_types(ctx, ctx.dtype(2), 8)


def _projected_types(ctx: NodeContext, dtype: DType, past: int) -> Sequence[ValueType | None]:
    if len(ctx.shape(0)) != 3 or len(ctx.shape(1)) != 2 or ctx.shape(0)[2] != ctx.shape(1)[0]:
        raise ShapeMismatchError("the input must be (batch, rows, width) and the weights (width, all projections)")
    batch, rows, _ = ctx.shape(0)
    width = ctx.shape(1)[1]
    sizes = tuple(ctx.attr("qkv_hidden_sizes") or ()) or (width // 3,) * 3
    earlier = ctx.shape(past)[3] if ctx.has(past) else 0
    heads = ctx.attr("num_heads")
    present = (2, batch, heads, earlier + rows, sizes[0] // heads)
    return [TensorType(dtype, (batch, rows, sizes[2])), TensorType(dtype, present)]


@shape_function("MultiHeadAttention", domain=DOMAIN)
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


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("QAttention", domain=DOMAIN)
def check_quantized_attention(ctx: NodeContext) -> None:
    expect_one(ctx, 3, "the scale of the input")
    expect_one(ctx, 6, "the zero point of the input")
    columns = expect_rank(ctx, 1, 2, "the weights")[1:]
    expect(ctx, 4, (), (1,), columns, what="the scale of the weights")
    expect(ctx, 7, (), (1,), columns, what="the zero point of the weights")
    expect_operand(ctx, "the input", data=0, scale=3, zero=6)
    expect_operand(ctx, "the weights", data=1, scale=4, zero=7)


# --- bodies -----------------------------------------------------------------------------------------------------------

MASK_FILTER = -10000.0


def _scale(node: Node, size: int) -> float:
    """The factor of the scores; 0 stands for none given."""
    return float(node.attr("scale", 0.0)) or 1.0 / math.sqrt(size)


def _all_masks(
    b: BodyBuilder, node: Node, like: Value, mask: Value | None, bias: Value | None, sizes: tuple[int, int, int, int]
) -> list[Value] | None:
    """What is added to the scores; None for a mask of a form that is not known.

    ``sizes``: batch, queries, keys of all, keys of earlier runs.
    """
    batch, queries, keys, earlier = sizes
    masks = [] if bias is None else [bias]
    if mask is not None and b.view.shape(mask) not in ((batch, 1), (1, 1)):
        found = key_mask(b, like, mask, batch, queries, keys, float(node.attr("mask_filter_value", MASK_FILTER)))
        if found is None:
            return None
        masks.append(found)
    if node.attr("unidirectional", 0) and queries > 1:  # onnxruntime lets a single query see every key
        causal = causal_mask(b, like, queries, keys, earlier)
        masks += [] if causal is None else [causal]
    return masks


@body("Attention", domain=DOMAIN)
def build_attention(b: BodyBuilder, node: Node) -> bool:
    if node.attr("do_rotary", 0) or node.attr("past_present_share_buffer", 0) or node.input(6) is not None:
        return False
    projected = b.op("MatMul", [given(node, 0), given(node, 1)])
    bias = node.input(2)
    if bias is not None:
        projected = b.op("Add", [projected, bias])
    return _projected(b, node, projected, given(node, 0), node.input(3), node.input(4), node.input(5))


@body("QAttention", domain=DOMAIN)
def build_quantized_attention(b: BodyBuilder, node: Node) -> bool:
    if node.attr("do_rotary", 0) or node.attr("past_present_share_buffer", 0):
        return False
    factors = [given(node, 0), given(node, 1), node.input(6), node.input(7)]
    projected = integer_product(b, factors, [given(node, 3), given(node, 4)], given(node, 2))
    return _projected(b, node, projected, given(node, 2), node.input(5), node.input(8), None)


def _projected(
    b: BodyBuilder,
    node: Node,
    projected: Value,
    like: Value,
    mask: Value | None,
    past: Value | None,
    bias: Value | None,
) -> bool:
    """``projected`` is (B, S, queries, keys and values side by side); ``past`` (2, B, N, P, H), keys, then values."""
    batch, queries, _ = b.view.shape(given(node, 0))
    heads, width = int(node.attr("num_heads")), b.view.shape(given(node, 1))[1]
    widths = [int(size) for size in node.attr("qkv_hidden_sizes", ()) or ()] or [width // 3] * 3
    if len(widths) != 3 or sum(widths) != width or widths[0] != widths[1]:
        return False
    parts, start = [], 0
    for size in widths:
        value = cut(b, projected, 2, start, start + size)
        parts.append(Heads(value, batch, heads, queries, size // heads))
        start += size
    query, key, value_part = parts
    earlier = 0 if past is None else b.view.shape(past)[3]
    present = node.output(1)
    if past is not None or present is not None:
        if key.size != value_part.size:
            return False
        pasts: list[Value | None] = [None, None]
        if past is not None:
            shape = (batch, heads, earlier, key.size)
            pasts = [shaped(b, cut(b, past, 0, i, i + 1), shape) for i in range(2)]
        key, value_part = key.behind(b, pasts[0], earlier), value_part.behind(b, pasts[1], earlier)
    if present is not None:
        half = (1, batch, heads, earlier + queries, key.size)
        joined(b, [shaped(b, part.value, half) for part in (key, value_part)], 0, into=present)
    masks = _all_masks(b, node, like, mask, bias, (batch, queries, key.rows, earlier))
    if masks is None:
        return False
    attend(b, query, key, value_part, Scoring(_scale(node, query.size), masks), made(node))
    return True


@body("MultiHeadAttention", domain=DOMAIN)
def build_multi_head(b: BodyBuilder, node: Node) -> bool:
    """Queries, keys and values: apart, or packed along the last axis but one; keys (B, N, T, H) are of a cache."""
    if any(node.input(index) is not None for index in (8, 9)):
        return False
    found = _three(b, node, int(node.attr("num_heads")))
    if found is None:
        return False
    query, key, value = _with_bias(b, node.input(3), found)
    past_key, past_value = node.input(6), node.input(7)
    if (past_key is None) != (past_value is None):
        return False
    earlier = 0 if past_key is None else b.view.shape(past_key)[2]
    if past_key is not None or node.output(1) is not None or node.output(2) is not None:
        if past_key is not None and key.is_split:
            return False  # keys of a cache have no past
        key = key.behind(b, past_key, earlier, into=node.output(1))
        value = value.behind(b, past_value, earlier, into=node.output(2))
    masks = _all_masks(
        b, node, given(node, 0), node.input(4), node.input(5), (query.batch, query.rows, key.rows, earlier)
    )
    if masks is None:
        return False
    how = Scoring(_scale(node, query.size), masks, scores=node.output(3))
    attend(b, query, key, value, how, made(node))
    return True


def _three(b: BodyBuilder, node: Node, heads: int) -> tuple[Heads, Heads, Heads] | None:
    """Queries, keys and values."""
    first, key, value = given(node, 0), node.input(1), node.input(2)
    shape = b.view.shape(first)
    if len(shape) == 5:
        parts = _unpacked(b, first, 3)
        return parts[0], parts[1], parts[2]
    query = Heads(first, shape[0], heads, shape[1], shape[2] // heads)
    if key is None:
        return None
    if value is None:
        pair = _unpacked(b, key, 2)
        return query, pair[0], pair[1]
    sides = []
    for side in (key, value):
        own = b.view.shape(side)
        if len(own) == 4:
            sides.append(Heads(side, own[0], own[1], own[2], own[3], True))
        else:
            sides.append(Heads(side, own[0], heads, own[1], own[2] // heads))
    return query, sides[0], sides[1]


def _unpacked(b: BodyBuilder, packed: Value, count: int) -> list[Heads]:
    """The parts of (B, rows, N, count, H)."""
    batch, rows, heads, _, size = b.view.shape(packed)
    found = []
    for index in range(count):
        part = shaped(b, cut(b, packed, 3, index, index + 1), (batch, rows, heads * size))
        found.append(Heads(part, batch, heads, rows, size))
    return found


def _with_bias(b: BodyBuilder, bias: Value | None, parts: tuple[Heads, Heads, Heads]) -> tuple[Heads, Heads, Heads]:
    """Each with its part of the bias added; what comes from a cache has it already."""
    if bias is None:
        return parts
    found, start = [], 0
    for part in parts:
        width = part.heads * part.size
        if part.is_split:
            found.append(part)
        else:
            summed = b.op("Add", [part.value, cut(b, bias, 0, start, start + width)])
            found.append(Heads(summed, part.batch, part.heads, part.rows, part.size))
        start += width
    return found[0], found[1], found[2]
