"""Attention whose heads share keys, with a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import count
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import NodeContext
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.checks import expect_size
from mace_core.operators.microsoft.embedding import rotated
from mace_core.operators.microsoft.scores import Heads, Scoring, attend, causal_mask
from mace_core.operators.pieces import cast, cut, joined, shaped
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules(
    "GroupQueryAttention",
    domain=DOMAIN,
    rules={"num_heads": count(required=True), "kv_num_heads": count(required=True)},
)


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("GroupQueryAttention", domain=DOMAIN)
def group_query_attention(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, N H); the present is as long as the past, or the total that input 6 gives where that is more."""
    batch, rows, width = ctx.shape(0)
    heads, groups = ctx.attr("num_heads"), ctx.attr("kv_num_heads")
    size = width // heads if ctx.has(1) else width // (heads + 2 * groups)
    total = max(ctx.ints(6)[0], ctx.shape(3)[2] if ctx.has(3) else 0)
    present = TensorType(ctx.dtype(0), (batch, groups, total, size))
    scores = TensorType(ctx.dtype(0), (batch, heads, rows, total))
    return [TensorType(ctx.dtype(0), (batch, rows, heads * size)), present, present, scores]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("GroupQueryAttention", domain=DOMAIN)
def check_grouped_attention(ctx: NodeContext) -> None:
    batch, _, width = expect_rank(ctx, 0, 3, "the queries")
    heads, groups = ctx.attr("num_heads", 0), ctx.attr("kv_num_heads", 0)
    require(heads > 0 and groups > 0 and heads % groups == 0, f"{groups} heads of keys must divide {heads} of queries")
    require(
        ctx.attr("local_window_size", -1) != 0, "local_window_size 0 lets no query see a key; -1 stands for no window"
    )
    size = width // heads if ctx.has(1) else width // (heads + 2 * groups)
    for index, what in ((1, "the keys"), (2, "the values")):
        if ctx.has(index):
            found = expect_rank(ctx, index, 3, what)
            require(
                (found[0], found[2]) == (batch, groups * size),
                f"{what} must be ({batch}, rows, {groups * size}), not {list(found)}",
            )
    require(ctx.has(3) == ctx.has(4), "past keys and past values must be given together")
    if ctx.has(3) and ctx.dtype(3) is ctx.dtype(0):  # those stored in few bits are packed
        past = expect_rank(ctx, 3, 4, "the past keys")[2]
        for index, what in ((3, "the past keys"), (4, "the past values")):
            expect(ctx, index, (batch, groups, past, size), what=what)
    expect_size(ctx, 5, batch, "the lengths, one for each batch,")


# --- bodies -----------------------------------------------------------------------------------------------------------

KNOWN_INPUTS = 12

ATTRIBUTES = frozenset(
    {
        *("num_heads", "kv_num_heads", "scale", "softcap", "do_rotary", "rotary_interleaved", "local_window_size"),
        *("smooth_softmax", "causal"),
    }
)

IDLE = {
    **dict.fromkeys(("k_quant_type", "v_quant_type"), ("NONE", "", None)),
    **dict.fromkeys(("qk_output", "kv_cache_bit_width", "sliding_window_cache"), (0, None)),
    **dict.fromkeys(("qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"), None),
}
"""Attributes that change nothing with one of these values; with any (None) without the inputs they belong to."""


def _is_known(node: Node) -> bool:
    for name in set(node.attributes) - ATTRIBUTES:
        if name not in IDLE:
            return False
        accepted = IDLE[name]
        if accepted is not None and node.attr(name) not in accepted:
            return False
    return all(value is None for value in (*node.inputs[KNOWN_INPUTS:], *node.outputs[3:]))


@body("GroupQueryAttention", domain=DOMAIN)
def build_grouped(b: BodyBuilder, node: Node) -> bool:
    """The length of the present is known (else the node waits); where in it the new keys begin, only at run time."""
    total_value = b.view.constant(node.input(6))
    if not _is_known(node) or total_value is None:
        return False
    total = total_value.tolist()[0]
    query, key, value = _three(b, node)
    past_key, past_value = node.input(3), node.input(4)
    earlier = 0 if past_key is None else b.view.shape(past_key)[2]
    before = _before(b, node, query.batch, query.rows, earlier, total)
    if node.attr("do_rotary", 0):
        positions = node.input(9)
        if positions is None:
            positions = b.numbers(query.rows, (1, query.rows), 0 if isinstance(before, Value) else before)
            if isinstance(before, Value):
                positions = b.op("Add", [shaped(b, before, (query.batch, 1)), positions])
        caches = (given(node, 7), given(node, 8))
        flag = bool(node.attr("rotary_interleaved", 0))
        query, key = (rotated(b, part.split(b), positions, caches, interleaved=flag) for part in (query, key))
    present = max(earlier, total)
    key = _cached(b, key, past_key, earlier, before, present, node.output(1))
    value = _cached(b, value, past_value, earlier, before, present, node.output(2))
    if present > total:
        key, value = (
            Heads(cut(b, part.value, 2, 0, total), part.batch, part.heads, total, part.size, True)
            for part in (key, value)
        )
    masks = [] if node.input(10) is None else [given(node, 10)]
    if node.attr("causal", 1):
        window = max(int(node.attr("local_window_size", -1)), 0)
        causal = causal_mask(b, given(node, 0), query.rows, total, before, window)
        masks += [] if causal is None else [causal]
    sink = None
    if node.input(11) is not None:
        sink = shaped(b, given(node, 11), (1, query.heads, 1, 1))
    elif node.attr("smooth_softmax", 0):
        sink = shaped(b, b.scalar_like(0.0, given(node, 0)), (1, 1, 1, 1))
    scale = float(node.attr("scale", 0.0)) or 1.0 / math.sqrt(query.size)
    how = Scoring(scale, masks, softcap=float(node.attr("softcap", 0.0)), sink=sink)
    attend(b, query, key, value, how, made(node))
    return True


def _three(b: BodyBuilder, node: Node) -> tuple[Heads, Heads, Heads]:
    """Queries, keys and values, which may come side by side in the first input."""
    first = given(node, 0)
    heads, groups = int(node.attr("num_heads")), int(node.attr("kv_num_heads"))
    batch, rows, width = b.view.shape(first)
    if node.input(1) is not None and node.input(2) is not None:
        size = width // heads
        sides = [Heads(given(node, i), batch, groups, rows, size) for i in (1, 2)]
        return Heads(first, batch, heads, rows, size), sides[0], sides[1]
    size = width // (heads + 2 * groups)
    parts, start = [], 0
    for number in (heads, groups, groups):
        part = cut(b, first, 2, start, start + number * size)
        parts.append(Heads(part, batch, number, rows, size))
        start += number * size
    return parts[0], parts[1], parts[2]


def _before(b: BodyBuilder, node: Node, batch: int, rows: int, earlier: int, total: int) -> int | Value:
    """Keys before the new ones: a number, or (B, 1, 1, 1) where only the lengths tell."""
    if rows == total:
        return 0  # the first prompt, whatever the cache has room for
    if batch == 1:
        return total - rows  # the one sequence is the longest
    lengths = shaped(b, cast(b, given(node, 5), DType.INT64), (batch, 1, 1, 1))
    return b.op("Add", [lengths, b.constant(1 - rows, np.int64)])


def _cached(
    b: BodyBuilder, own: Heads, past: Value | None, earlier: int, before: int | Value, present: int, into: Value | None
) -> Heads:
    """(B, G, present, H): what the cache has, the new rows from ``before`` on, then zeros."""
    new = own.split(b)
    room = (own.batch, own.heads, present, own.size)
    if isinstance(before, int):
        parts = []
        if past is not None and before:
            parts.append(past if before == earlier else cut(b, past, 2, 0, before))
        parts.append(new.value)
        rest = present - before - own.rows
        if rest:
            parts.append(_zeros(b, (own.batch, own.heads, rest, own.size)))
        if len(parts) > 1:
            whole = joined(b, parts, 2, into=into)
        else:
            whole = b.op("Identity", parts, into=into) if into is not None else parts[0]
        return Heads(whole, own.batch, own.heads, present, own.size, True)
    places = b.numbers(present, (1, 1, present, 1))
    source = [new.value, _zeros(b, (own.batch, own.heads, 1, own.size))]
    if past is not None:
        source.insert(0, past)
    after = b.op("Sub", [places, before])
    is_new = b.op("And", [b.op("Greater", [after, b.constant(-1, np.int64)]), b.op("Less", [after, _rows(b, own)])])
    index = b.op("Where", [is_new, b.op("Add", [after, b.constant(earlier, np.int64)]), _rows(b, own, earlier)])
    index = b.op("Where", [b.op("Less", [places, before]), places, index])
    index = b.op("Expand", [index, b.constant(list(room), np.int64)])
    whole = b.op("GatherElements", [joined(b, source, 2), index], {"axis": 2}, into=into)
    return Heads(whole, own.batch, own.heads, present, own.size, True)


def _rows(b: BodyBuilder, own: Heads, more: int = 0) -> Value:
    return b.constant(own.rows + more, np.int64)


def _zeros(b: BodyBuilder, shape: tuple[int, ...]) -> Value:
    """Zeros of the type of the node's first input."""
    zero = b.scalar_like(0.0, given(b.node, 0))
    return b.op("Expand", [zero, b.constant(list(shape), np.int64)])
