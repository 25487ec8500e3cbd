"""Recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.operators.attributes.ranks import check_length
from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import NodeContext, NodeShapes, ShapeMismatchError
from mace_core.operators.registry import RankCheck, agreement, rank_check, shape_function, work_estimate
from mace_core.tensor import TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------


def activations_for(each: int) -> RankCheck:
    """A rank check of a layer with ``each`` activations in every direction."""

    def check(ctx: NodeContext) -> None:
        directions = 2 if ctx.attr("direction", "forward") == "bidirectional" else 1
        check_length(ctx, "activations", each * directions)

    return check


rank_check("RNN")(activations_for(1))
rank_check("GRU")(activations_for(2))
rank_check("LSTM")(activations_for(3))


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("RNN", "GRU", "LSTM")
def recurrent(ctx: NodeContext) -> Sequence[ValueType]:
    """Y (seq, dir, batch, hidden), Y_h and Y_c (dir, batch, hidden); batch comes first with layout 1."""
    data, weights, recurrence = ctx.shape(0), ctx.shape(1), ctx.shape(2)
    if len(data) != 3 or len(weights) != 3 or len(recurrence) != 3:
        raise ShapeMismatchError("X, W and R must have 3 axes")
    if weights[2] != data[2]:
        raise ShapeMismatchError(f"X has {data[2]} features, the weights W are made for {weights[2]}")
    directions = 2 if ctx.attr("direction", "forward") == "bidirectional" else 1
    hidden = ctx.attr("hidden_size", recurrence[2])
    if weights[0] != directions or recurrence[2] != hidden:
        raise ShapeMismatchError(f"W and R must be made for {directions} direction(s) and a hidden size of {hidden}")
    dtype = ctx.dtype(0)
    if ctx.attr("layout", 0):
        batch, steps = data[:2]
        everything, last = (batch, steps, directions, hidden), (batch, directions, hidden)
    else:
        steps, batch = data[:2]
        everything, last = (steps, directions, batch, hidden), (directions, batch, hidden)
    return [TensorType(dtype, everything), TensorType(dtype, last), TensorType(dtype, last)]


# --- agreement --------------------------------------------------------------------------------------------------------

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@agreement("RNN", "GRU", "LSTM")
def check_recurrent(ctx: NodeContext) -> None:
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


# --- work -------------------------------------------------------------------------------------------------------------


@work_estimate("RNN", "GRU", "LSTM", are_macs=True)
def recurrent_macs(shapes: NodeShapes) -> int | None:
    """X (seq, batch, input) or batch first: every step multiplies with W and R of every direction."""
    data, weight, recurrence = shapes.input(0), shapes.input(1), shapes.input(2)
    if data is None or weight is None or recurrence is None:
        return None
    return data[0] * data[1] * (math.prod(weight) + math.prod(recurrence))
