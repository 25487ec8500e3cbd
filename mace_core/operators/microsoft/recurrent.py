"""Recurrent layers with quantized weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import BodyBuilder, given, kept
from mace_core.operators.checks import expect, expect_rank, require
from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.microsoft import DOMAIN
from mace_core.operators.quantized_operands import expect_operand
from mace_core.operators.registry import agreement, body, rank_check, shape_function
from mace_core.operators.standard.recurrent import activations_for
from mace_core.tensor import DType, TensorType, ValueType

# --- attributes -------------------------------------------------------------------------------------------------------

rank_check("DynamicQuantizeLSTM", domain=DOMAIN)(activations_for(3))


# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("DynamicQuantizeLSTM", domain=DOMAIN, dtypes=lambda ctx: [DType.FLOAT32] * 3)
def dynamic_lstm(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Like LSTM's; W and R are (directions, inputs, 4 hidden)."""
    (steps, batch, features), weights = ctx.shape(0), ctx.shape(1)
    directions = 2 if ctx.attr("direction", "forward") == "bidirectional" else 1
    hidden = ctx.attr("hidden_size", weights[2] // 4)
    if weights != (directions, features, 4 * hidden) or ctx.shape(2) != (directions, hidden, 4 * hidden):
        raise ShapeMismatchError(f"W and R must be (directions, inputs, 4 * hidden) for a hidden size of {hidden}")
    last = TensorType(DType.FLOAT32, (directions, batch, hidden))
    return [TensorType(DType.FLOAT32, (steps, directions, batch, hidden)), last, last]


# --- agreement --------------------------------------------------------------------------------------------------------


@agreement("DynamicQuantizeLSTM", domain=DOMAIN)
def check_dynamic_lstm(ctx: NodeContext) -> None:
    data = expect_rank(ctx, 0, 3, "X")
    directions, hidden, width = expect_rank(ctx, 2, 3, "R")
    direction = ctx.attr("direction", "forward")
    require(direction in ("forward", "reverse", "bidirectional"), f"there is no direction '{direction}'")
    expect(ctx, 3, (directions, 2 * width), what="the bias")
    expect(ctx, 4, (data[1],), what="the lengths, one for each sequence,")
    for index, what in ((5, "hidden"), (6, "cell")):
        expect(ctx, index, (directions, data[1], hidden), what=f"the first {what} state")
    expect(ctx, 7, (directions, 3 * hidden), what="the peepholes")
    for index, what in (
        (8, "the scale of W"),
        (9, "the zero point of W"),
        (10, "the scale of R"),
        (11, "the zero point of R"),
    ):
        expect(ctx, index, (directions,), (directions, width), what=f"{what}, for each direction or column,")
    expect_operand(ctx, "W", data=1, scale=8, zero=9)
    expect_operand(ctx, "R", data=2, scale=10, zero=11)


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("DynamicQuantizeLSTM", domain=DOMAIN)
def build_quantized_lstm(b: BodyBuilder, node: Node) -> bool:
    """With constant weights: they are floats from then on, and data and states stay what they are.

    onnxruntime rounds data and states to 8 bits in every step; what it computes differs by that noise.
    """
    weights = [_weights(b, node, index, scale) for index, scale in ((1, 8), (2, 10))]
    if weights[0] is None or weights[1] is None:
        return False
    inputs = [given(node, 0), *weights, *(node.input(index) for index in range(3, 8))]
    b.into("LSTM", inputs, kept(node), node.outputs)
    return True


def _weights(b: BodyBuilder, node: Node, index: int, scale: int) -> Value | None:
    """(directions, 4 hidden, inputs) from (directions, inputs, 4 hidden) and a scale per direction or column."""
    found = [b.view.constant(node.input(i)) for i in (index, scale, scale + 1)]
    data, factors, zeros = (None if tensor is None else tensor.numpy() for tensor in found)
    if data is None or factors is None or zeros is None:
        return None
    directions = data.shape[0]
    offsets = data.astype(np.float32) - zeros.reshape(directions, 1, -1).astype(np.float32)
    values = offsets * factors.reshape(directions, 1, -1)
    return b.constant(np.ascontiguousarray(values.transpose(0, 2, 1)))
