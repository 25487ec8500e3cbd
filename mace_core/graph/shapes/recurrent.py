"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError
from mace_core.graph.shapes.registry import shape_function
from mace_core.tensor import TensorType, ValueType


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
