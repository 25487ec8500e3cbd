"""RNN, GRU and LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
OTHERS = ("Relu", "Tanh", "Sigmoid")


@draws("RNN", "GRU", "LSTM")
def recurrent(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    steps, batch, width, hidden = source.dim(1, 5), source.dim(1, 3), source.dim(1, 5), source.dim(1, 9)
    direction = source.pick(["forward", "reverse", "bidirectional"])
    directions = 2 if direction == "bidirectional" else 1
    batch_first = opset >= 14 and source.rarely(4)
    gates = GATES[op] * hidden

    def weights(*shape: int) -> Array:
        return source.floats(shape, dtype, -0.6, 0.6)

    x = source.floats((batch, steps, width) if batch_first else (steps, batch, width), dtype, -1, 1)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    inputs: list[Array | None] = [x, weights(directions, gates, width), weights(directions, gates, hidden)]
    inputs.append(weights(directions, 2 * gates) if source.flag() else None)
    inputs.append(source.array((batch,), np.int32, 1, steps) if source.rarely(3) else None)
    inputs.append(weights(*state) if source.flag() else None)
    if op == "LSTM":
        inputs.append(weights(*state) if source.flag() else None)
        inputs.append(weights(directions, 3 * hidden) if source.rarely(3) else None)
    while inputs[-1] is None:
        inputs.pop()
    attributes: dict[str, Any] = {"hidden_size": hidden}
    if direction != "forward" or source.flag():
        attributes["direction"] = direction
    if batch_first:
        attributes["layout"] = 1
    if source.rarely(4):
        attributes["activations"] = [source.pick(OTHERS) for _ in FUNCTIONS[op] * directions]
    if source.rarely(6):
        attributes["clip"] = 0.5
    if op == "GRU" and source.flag():
        attributes["linear_before_reset"] = int(source.flag())
    if op == "LSTM" and source.rarely(6):
        attributes["input_forget"] = 1
    outputs = (True, True, True) if op == "LSTM" else (True, True)
    return OpCase(op, opset, tuple(inputs), attributes, outputs, tolerance=2e-2 if dtype.itemsize == 2 else 1e-4)
