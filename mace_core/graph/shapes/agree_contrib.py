"""Agreement in operators of com.microsoft.

What is known of their inputs is from onnxruntime's ContribOperators.md; where that and what onnxruntime accepts leave
several forms of the same elements (a list, or a list in a matrix), the number of elements is what must fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph.shapes.agree_sequences import qlinear_conv
from mace_core.graph.shapes.agreement import agreement, expect, expect_one, expect_rank, require
from mace_core.graph.shapes.context import Ints, NodeContext
from mace_core.tensor import DType

_DOMAIN = "com.microsoft"

agreement("QLinearConv", domain=_DOMAIN)(qlinear_conv)


def _expect_size(ctx: NodeContext, index: int, size: int, what: str) -> None:
    """Refuse an input, where given, that has another number of elements."""
    if ctx.has(index):
        found = math.prod(ctx.shape(index))
        require(found == size, f"{what} must have {size} elements, not {found}: {list(ctx.shape(index))}")


def _expect_fit(ctx: NodeContext, index: int, target: Ints, what: str) -> None:
    """Refuse an input, where given, that does not broadcast to ``target``."""
    if ctx.has(index):
        given = ctx.shape(index)
        fits = len(given) <= len(target) and all(
            own in (1, other) for own, other in zip(reversed(given), reversed(target), strict=False)
        )
        require(fits, f"{what} {list(given)} does not broadcast to {list(target)}")


def _expect_ones(ctx: NodeContext, indices: Sequence[int]) -> None:
    for index in indices:
        expect_one(ctx, index, f"input {index}, a scale or a zero point,")


@agreement("BiasGelu", "FastGelu", domain=_DOMAIN)
def bias_along_the_last_axis(ctx: NodeContext) -> None:
    if ctx.has(1):
        require(len(ctx.shape(0)) > 0, "data with a bias must have at least 1 axis")
        expect(ctx, 1, ctx.shape(0)[-1:], what="the bias")


@agreement("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=_DOMAIN)
def skip_normalised(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    require(len(shape) >= 2, "the data must have at least 2 axes")
    _expect_fit(ctx, 1, shape, "the skipping input")
    for index in range(2, ctx.input_count):
        expect(ctx, index, shape[-1:], what=f"input {index}")


@agreement("EmbedLayerNormalization", domain=_DOMAIN)
def embedded(ctx: NodeContext) -> None:
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


@agreement("QLinearAdd", "QLinearMul", domain=_DOMAIN)
def quantised_pair(ctx: NodeContext) -> None:
    _expect_ones(ctx, (1, 2, 4, 5, 6, 7))


@agreement(
    "QLinearSigmoid",
    "QLinearLeakyRelu",
    "QLinearSoftmax",
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    domain=_DOMAIN,
)
def quantised_single(ctx: NodeContext) -> None:
    _expect_ones(ctx, (1, 2, 3, 4))


@agreement("QGemm", domain=_DOMAIN)
def quantised_gemm(ctx: NodeContext) -> None:
    first, second = expect_rank(ctx, 0, 2, "A"), expect_rank(ctx, 3, 2, "B")
    rows = first[1 if ctx.attr("transA", 0) else 0]
    columns = second[0 if ctx.attr("transB", 0) else 1]
    _expect_ones(ctx, (1, 2, 7, 8))
    for index in (4, 5):
        expect(ctx, index, (), (1,), (columns,), what=f"input {index}, of B,")
    _expect_fit(ctx, 6, (rows, columns), "C")


def _product_with_columns(ctx: NodeContext, scale: int, zero: int, bias: int) -> None:
    shape = ctx.shape(1)
    require(len(shape) >= 2, "B must have at least 2 axes")
    columns = shape[-1]
    for index, what in ((scale, "the scale of B"), (zero, "the zero point of B")):
        expect(ctx, index, (), (1,), (columns,), (*shape[:-2], 1, columns), what=what)
    expect(ctx, bias, (columns,), what="the bias")


@agreement("MatMulIntegerToFloat", domain=_DOMAIN)
def product_of_bytes(ctx: NodeContext) -> None:
    _expect_ones(ctx, (2, 4))
    _product_with_columns(ctx, 3, 5, 6)


@agreement("DynamicQuantizeMatMul", domain=_DOMAIN)
def product_with_bytes(ctx: NodeContext) -> None:
    _product_with_columns(ctx, 2, 3, 4)


@agreement("MatMulNBits", domain=_DOMAIN)
def product_of_blocks(ctx: NodeContext) -> None:
    depth, columns, bits, block = (ctx.attr(name, 4) for name in ("K", "N", "bits", "block_size"))
    require(min(depth, columns, bits, block) > 0, "K, N, bits and block_size must be positive")
    blocks = -(-depth // block)
    if ctx.dtype(1) is DType.UINT8:
        _expect_size(ctx, 1, columns * blocks * -(block * bits // -8), "the packed weights")
    _expect_size(ctx, 2, columns * blocks, "the scales, one for each block,")
    _expect_size(ctx, 5, columns, "the bias")


@agreement("GatherBlockQuantized", domain=_DOMAIN)
def blocks_gathered(ctx: NodeContext) -> None:
    data = list(ctx.shape(0))
    require(len(data) > 0, "the data must have at least 1 axis")
    if ctx.dtype(0) is DType.UINT8:
        data[-1] *= 8 // ctx.attr("bits", 4)
    axis, block = ctx.attr("quantize_axis", 1), ctx.attr("block_size", 128)
    require(-len(data) <= axis < len(data) and block > 0, f"there is no axis {axis} in blocks of {block}")
    axis %= len(data)
    wanted = tuple(-(-size // block) if i == axis else size for i, size in enumerate(data))
    expect(ctx, 2, wanted, what="the scales, one for each block,")


@agreement("GroupQueryAttention", domain=_DOMAIN)
def grouped_attention(ctx: NodeContext) -> None:
    batch, _, width = expect_rank(ctx, 0, 3, "the queries")
    heads, groups = ctx.attr("num_heads", 0), ctx.attr("kv_num_heads", 0)
    require(heads > 0 and groups > 0 and heads % groups == 0, f"{groups} heads of keys must divide {heads} of queries")
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
    _expect_size(ctx, 5, batch, "the lengths, one for each batch,")


@agreement("RotaryEmbedding", domain=_DOMAIN)
def rotated(ctx: NodeContext) -> None:
    data = ctx.shape(0)
    require(len(data) in (3, 4), "the data must be (batch, rows, width) or (batch, heads, rows, size)")
    expect_rank(ctx, 2, 2, "the cosines")
    expect(ctx, 3, ctx.shape(2), what="the sines, as the cosines,")
    expect(ctx, 1, (), (1,), (data[0], data[1 if len(data) == 3 else 2]), what="the positions")


@agreement("ExpandDims", domain=_DOMAIN)
def one_new_axis(ctx: NodeContext) -> None:
    expect_one(ctx, 1, "the axis")
