"""Rotary embeddings and the embedding of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.rule import size
from mace_core.operators.bodies import BodyBuilder, given, made
from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import NodeContext, same_as_first, same_shape
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.microsoft.scores import Heads
from mace_core.operators.pieces import cast, cut, joined, shaped, turned
from mace_core.operators.registry import agreement, body, shape_function
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

attribute_rules("RotaryEmbedding", domain=DOMAIN, rules={"num_heads": size()})


# --- shapes -----------------------------------------------------------------------------------------------------------

shape_function("RotaryEmbedding", domain=DOMAIN)(same_as_first)


def _embedded_dtypes(ctx: NodeContext) -> Sequence[DType | None]:
    return [ctx.dtype(2), DType.INT32, ctx.dtype(2)]


@shape_function("EmbedLayerNormalization", domain=DOMAIN, dtypes=_embedded_dtypes)
def embed_layer_normalization(ctx: NodeContext) -> Sequence[ValueType | None]:
    """(B, S, width), the number of words of each row that are no padding, and what was normalized."""
    batch, rows = ctx.shape(0)
    result = TensorType(ctx.dtype(2), (batch, rows, ctx.shape(2)[1]))
    return [result, TensorType(DType.INT32, (batch,)), result]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("EmbedLayerNormalization", domain=DOMAIN)
def check_embedded(ctx: NodeContext) -> None:
    words = expect_rank(ctx, 0, 2, "the words (batch, rows)")
    width = expect_rank(ctx, 2, 2, "the table of words")[1]
    expect(ctx, 1, words, what="the segments, one for each word,")
    for index, what in ((3, "positions"), (4, "segments")):
        if ctx.has(index):
            found = expect_rank(ctx, index, 2, f"the table of {what}")[1]
            require(found == width, f"the table of {what} has rows of {found} elements, that of words of {width}")
    expect(ctx, 5, (width,), what="gamma")
    expect(ctx, 6, (width,), what="beta")
    expect(ctx, 7, words, what="the mask, one for each word,")
    expect(ctx, 8, words, (1, words[1]), what="the positions")
    if not ctx.has(8) and ctx.has(3) and words[0]:
        longest = ctx.shape(3)[0]
        require(longest >= words[1], f"the table of positions has {longest} rows for {words[1]} words")


@agreement("RotaryEmbedding", domain=DOMAIN)
def check_rotated(ctx: NodeContext) -> None:
    data = ctx.shape(0)
    require(len(data) in (3, 4), "the data must be (batch, rows, width) or (batch, heads, rows, size)")
    expect_rank(ctx, 2, 2, "the cosines")
    expect(ctx, 3, ctx.shape(2), what="the sines, as the cosines,")
    expect(ctx, 1, (), (1,), (data[0], data[1 if len(data) == 3 else 2]), what="the positions")


# --- bodies -----------------------------------------------------------------------------------------------------------


def rotated(
    b: BodyBuilder, part: Heads, positions: Value, caches: tuple[Value, Value], *, interleaved: bool, scale: float = 1.0
) -> Heads:
    """Pairs of elements of every head turned by the angle of their position.

    Args:
        part: split, (B, heads, S, H).
        positions: (B or 1, S), of int64.
        caches: cosines and sines, (positions, half the elements that are turned).
        interleaved: a pair are neighbors; else one of either half.
        scale: of what is turned.
    """
    half = b.view.shape(caches[0])[-1]
    if not half and scale == 1.0:
        return part  # no pair is turned
    cosine, sine = (_angles(b, cache, positions, part, half) for cache in caches)
    x = part.value
    if interleaved:
        first, second = cut(b, x, 3, 0, 2 * half, 2), cut(b, x, 3, 1, 2 * half, 2)
    else:
        first, second = cut(b, x, 3, 0, half), cut(b, x, 3, half, 2 * half)
    real = b.op("Sub", [b.op("Mul", [first, cosine]), b.op("Mul", [second, sine])])
    imaginary = b.op("Add", [b.op("Mul", [first, sine]), b.op("Mul", [second, cosine])])
    lanes = (part.batch, part.heads, part.rows, half)
    if interleaved:
        pair = joined(b, [shaped(b, side, (*lanes, 1)) for side in (real, imaginary)], 4)
        turned_part = shaped(b, pair, (*lanes[:3], 2 * half))
        sides = [turned_part]
    else:
        sides = [real, imaginary]
    if part.size > 2 * half:
        sides.append(cut(b, x, 3, 2 * half, part.size))
    value = joined(b, sides, 3) if len(sides) > 1 else sides[0]
    if scale != 1.0:
        value = b.op("Mul", [value, b.scalar_like(scale, given(b.node, 0))])
    return Heads(value, part.batch, part.heads, part.rows, part.size, True)


def _angles(b: BodyBuilder, cache: Value, positions: Value, part: Heads, half: int) -> Value:
    """(B or 1, 1, S, half)."""
    found = b.op("Gather", [cache, positions], {"axis": 0})
    shape = b.view.tensor_type(positions)
    batch = part.batch if shape is None or shape.shape is None else shape.concrete_shape[0]
    return shaped(b, found, (-1 if shape is None else batch, 1, part.rows, half))


@body("RotaryEmbedding", domain=DOMAIN)
def build_rotary(b: BodyBuilder, node: Node) -> bool:
    """Positions: (1,), of the first row, or (B, S)."""
    x, positions = given(node, 0), given(node, 1)
    if node.attr("is_packed_batching", 0):
        return False
    shape = b.view.shape(x)
    half = b.view.shape(given(node, 2))[-1]
    heads = int(node.attr("num_heads", 0))
    if len(shape) == 4:
        part = Heads(x, shape[0], shape[1], shape[2], shape[3], True)
    else:
        size = shape[2] // heads if heads else 2 * half
        part = Heads(x, shape[0], shape[2] // size, shape[1], size).split(b)
    if same_shape(b.view.shape(positions), (1,)):
        steps = b.numbers(part.rows, (1, part.rows))
        positions = b.op("Add", [shaped(b, positions, (1, 1)), steps])
    caches = (given(node, 2), given(node, 3))
    flag = bool(node.attr("interleaved", 0))
    result = rotated(b, part, positions, caches, interleaved=flag, scale=float(node.attr("scale", 1.0)))
    if len(shape) == 4:
        b.op("Identity", [result.value], into=made(node))
    else:
        shaped(b, turned(b, result.value, (0, 2, 1, 3)), shape, into=made(node))
    return True


@body("EmbedLayerNormalization", domain=DOMAIN)
def build_embed(b: BodyBuilder, node: Node) -> bool:
    """The sum of the embeddings of word, position and segment, normalized; the number of words that are no padding."""
    words = given(node, 0)
    batch, length = b.view.shape(words)
    if not batch:
        return False  # the tables may have fewer rows than there would be words in a row
    positions = node.input(8)
    if positions is None:
        found = cut(b, given(node, 3), 0, 0, length)
    else:
        found = b.op("Gather", [given(node, 3), positions], {"axis": 0})
    total = b.op("Add", [b.op("Gather", [given(node, 2), words], {"axis": 0}), found])
    segments = node.input(1)
    if segments is not None:
        total = b.op("Add", [total, b.op("Gather", [given(node, 4), segments], {"axis": 0})])
    if node.output(2) is not None:
        b.op("Identity", [total], into=node.output(2))
    attributes = {"axis": -1, "epsilon": float(node.attr("epsilon", 1e-12))}
    b.op("LayerNormalization", [total, given(node, 5), given(node, 6)], attributes, into=made(node))
    counts = node.output(1)
    if counts is not None:
        mask = node.input(7)
        if mask is None:
            b.op("Expand", [b.constant(0, np.int32), b.constant([batch], np.int64)], into=counts)
        else:
            # sums of ones are exact in float32, and products are claimed wherever models run
            ones = b.op("MatMul", [cast(b, mask, DType.FLOAT32), _ones(b, length)])
            cast(b, shaped(b, ones, (batch,)), DType.INT32, into=counts)
    return True


def _ones(b: BodyBuilder, length: int) -> Value:
    """A column of float32."""
    if not is_symbolic(length):
        return b.constant(np.ones((length, 1), np.float32))
    return b.op("Expand", [b.constant(1, np.float32), b.constant([length, 1], np.int64)])
