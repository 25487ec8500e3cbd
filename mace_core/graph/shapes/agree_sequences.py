"""Agreement in quantised layers, layer normalisation, recurrent layers, attention and signals."""

from __future__ import annotations

from mace_core.graph.shapes.agreement import agreement, expect, expect_one, expect_rank, require
from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError


@agreement("ConvInteger")
def conv_integer(ctx: NodeContext) -> None:
    expect_one(ctx, 2, "the zero point of the data")
    expect(ctx, 3, (), (1,), ctx.shape(1)[:1], what="the zero point of the weights")


@agreement("QLinearConv")
def qlinear_conv(ctx: NodeContext) -> None:
    filters = ctx.shape(3)[:1]
    for index, what in (
        (1, "the scale of the data"),
        (2, "the zero point of the data"),
        (6, "the scale of the result"),
        (7, "the zero point of the result"),
    ):
        expect_one(ctx, index, what)
    expect(ctx, 4, (), (1,), filters, what="the scale of the weights")
    expect(ctx, 5, (), (1,), filters, what="the zero point of the weights")
    expect(ctx, 8, filters, what="the bias")


@agreement("QuantizeLinear", "DequantizeLinear")
def quantised_along(ctx: NodeContext) -> None:
    data, scale = ctx.shape(0), ctx.shape(1)
    expect(ctx, 2, *({(), (1,)} if scale in ((), (1,)) else {scale}), what="the zero point, as the scale,")
    if scale in ((), (1,)):
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


_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@agreement("RNN", "GRU", "LSTM")
def recurrent(ctx: NodeContext) -> None:
    data, weights = expect_rank(ctx, 0, 3, "X"), expect_rank(ctx, 1, 3, "W")
    hidden, directions = expect_rank(ctx, 2, 3, "R")[2], weights[0]
    direction = ctx.attr("direction", "forward")
    require(direction in ("forward", "reverse", "bidirectional"), f"there is no direction '{direction}'")
    width = _GATES[ctx.node.op_type] * hidden
    require(
        ctx.attr("hidden_size", hidden) == hidden,
        f"hidden_size {ctx.attr('hidden_size')} contradicts R of {hidden} hidden elements",
    )
    expect(ctx, 1, (directions, width, data[2]), what="W")
    expect(ctx, 2, (directions, width, hidden), what="R")
    expect(ctx, 3, (directions, 2 * width), what="the bias")
    by_batch = bool(ctx.attr("layout", 0))
    batch = data[0] if by_batch else data[1]
    expect(ctx, 4, (batch,), what="the lengths, one for each sequence,")
    state = (batch, directions, hidden) if by_batch else (directions, batch, hidden)
    expect(ctx, 5, state, what="the first hidden state")
    if ctx.node.op_type == "LSTM":
        expect(ctx, 6, state, what="the first cell state")
        expect(ctx, 7, (directions, 3 * hidden), what="the peepholes")


@agreement("Attention")
def attention(ctx: NodeContext) -> None:
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
def rotary_embedding(ctx: NodeContext) -> None:
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


@agreement("DFT")
def fourier(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    require(
        len(shape) >= 2 and shape[-1] in (1, 2),
        f"the last axis of {list(shape)} must hold 1 (real) or 2 (complex) parts",
    )
    expect_one(ctx, 1, "the length")
    expect_one(ctx, 2, "the axis")
    axis = ctx.attr("axis", 1) if ctx.opset < 20 else -2
    if ctx.has(2):
        known = ctx.content(2)
        axis = axis if known is None else int(known.reshape(-1)[0])
    require(
        -len(shape) <= axis < len(shape) and axis % len(shape) != len(shape) - 1,
        f"axis {axis} must name an axis of {list(shape)} before the last",
    )


@agreement("STFT")
def short_time_fourier(ctx: NodeContext) -> None:
    signal = ctx.shape(0)
    require(
        len(signal) == 2 or (len(signal) == 3 and signal[2] in (1, 2)),
        f"the signal must be (batch, samples, 1 or 2), not {list(signal)}",
    )
    expect_one(ctx, 1, "the step")
    expect_one(ctx, 3, "the length of frames")
    if ctx.has(2):
        window = expect_rank(ctx, 2, 1, "the window")
        length = ctx.content(3) if ctx.has(3) else None
        require(
            length is None or int(length.reshape(-1)[0]) >= window[0],
            f"a window of {window[0]} does not fit frames of {None if length is None else int(length.reshape(-1)[0])}",
        )


@agreement("LayerNormalization", "RMSNormalization")
def normalised_by_place(ctx: NodeContext) -> None:
    shape = ctx.shape(0)
    for index, what in ((1, "scale"), (2, "bias")):
        if ctx.has(index):
            given = ctx.shape(index)
            fits = len(given) <= len(shape) and all(
                own in (1, other) for own, other in zip(reversed(given), reversed(shape), strict=False)
            )
            require(fits, f"the {what} {list(given)} does not broadcast to {list(shape)}")
