"""Short recurrences, one step after the other: products and gates that every device has."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.graph import Node, Value
from mace_core.operators.bodies import given
from mace_core.topology.rule import RuleBuilder, rule

MOST_STEPS = 64
"""Of a sequence; what is longer would make more nodes than help anybody."""

_DIRECTIONS = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}


class _Unrolled:
    """What both kinds share: constants, products of the whole input, states, results."""

    def __init__(self, b: RuleBuilder, node: Node, gates: int) -> None:
        self.b, self.node = b, node
        self.x = given(node, 0)
        self.steps, self.batch, size = b.shape(self.x)
        self.weights, self.recurrent = (_constant(b, node.input(index)) for index in (1, 2))
        self.hidden = self.recurrent.shape[-1]
        bias = node.input(3)
        width = (len(self.weights), 2 * gates * self.hidden)
        self.bias = np.zeros(width, np.float32) if bias is None else _constant(b, bias)
        direction = node.attr("direction", "forward")
        self.ways = _DIRECTIONS[direction if isinstance(direction, str) else direction.decode()]
        self.flat = b.reshaped(self.x, (self.steps * self.batch, size))

    def is_plain(self) -> bool:
        """Whether it is a recurrence that this knows, and short."""
        node = self.node
        others = ("activations", "clip", "activation_alpha", "activation_beta", "input_forget")
        if any(name in node.attributes and node.attr(name) for name in others) or int(node.attr("layout", 0)):
            return False
        if self.b.dtype(self.x).label != "float32" or not 1 <= self.steps <= MOST_STEPS:
            return False
        lengths = node.input(4)
        if lengths is not None:
            content = self.b.content(lengths)
            return content is not None and bool((content == self.steps).all())
        return True

    def state(self, index: int, way: int) -> Value:
        """The first state of a direction, (batch, hidden)."""
        value = self.node.input(index)
        if value is None:
            return self.b.constant(np.zeros((self.batch, self.hidden), np.float32))
        one = value if len(self.ways) == 1 else self.b.sliced(value, 0, way, way + 1)
        return self.b.reshaped(one, (self.batch, self.hidden))

    def columns(self, value: Value, gate: int, count: int = 1) -> Value:
        """Those of some gates."""
        return self.b.sliced(value, 1, gate * self.hidden, (gate + count) * self.hidden)

    def rows(self, value: Value, step: int) -> Value:
        """Those of one step."""
        if self.steps == 1:
            return value
        return self.b.sliced(value, 0, step * self.batch, (step + 1) * self.batch)

    def times(self, value: Value, matrix: Any) -> Value:
        """The product with the transpose of a constant."""
        return self.b.op("MatMul", [value, self.b.constant(np.ascontiguousarray(matrix.T))])

    def order(self, way: int) -> range:
        """The steps of a direction, in their order."""
        return range(self.steps) if self.ways[way] > 0 else range(self.steps - 1, -1, -1)

    def finish(self, results: list[dict[int, Value]], last: list[list[Value]]) -> None:
        """Make the outputs: ``results`` of each direction by step, and for each further output its last states."""
        whole, ways = self.node.output(0), len(self.ways)
        if whole is not None:
            shape = (1, 1, self.batch, self.hidden)
            parts = [self.b.reshaped(results[way][t], shape) for t in range(self.steps) for way in range(ways)]
            joined = parts[0] if len(parts) == 1 else self.b.op("Concat", parts, {"axis": 0})
            self.b.reshaped(joined, (self.steps, ways, self.batch, self.hidden), into=whole)
        for index, states in enumerate(last, 1):
            target = self.node.output(index)
            if target is not None:
                parts = [self.b.reshaped(state, (1, self.batch, self.hidden)) for state in states]
                if len(parts) == 1:
                    self.b.op("Identity", parts, into=target)
                else:
                    self.b.op("Concat", parts, {"axis": 0}, into=target)


def _constant(b: RuleBuilder, value: Value | None) -> Any:
    found = b.content(value)
    if found is None:
        raise ValueError("its weights are computed by the run")
    return found


@rule("GRU, one step after the other", "GRU")
def gru(b: RuleBuilder, node: Node) -> bool:
    u = _Unrolled(b, node, 3)
    if not u.is_plain():
        return False
    size, is_linear = u.hidden, bool(int(node.attr("linear_before_reset", 0)))
    results: list[dict[int, Value]] = []
    last: list[Value] = []
    for way in range(len(u.ways)):
        own, other = u.bias[way, : 3 * size].copy(), u.bias[way, 3 * size :]
        own[: 2 * size] += other[: 2 * size]
        if not is_linear:
            own[2 * size :] += other[2 * size :]
        inputs = b.op("Add", [u.times(u.flat, u.weights[way]), b.constant(own)])
        state, found = u.state(5, way), {}
        gates, candidate = u.recurrent[way][: 2 * size], u.recurrent[way][2 * size :]
        for t in u.order(way):
            row = u.rows(inputs, t)
            both = b.op("Sigmoid", [b.op("Add", [u.columns(row, 0, 2), u.times(state, gates)])])
            update, reset = u.columns(both, 0), u.columns(both, 1)
            if is_linear:
                inner = b.op("Add", [u.times(state, candidate), b.constant(other[2 * size :].copy())])
                inner = b.op("Mul", [reset, inner])
            else:
                inner = u.times(b.op("Mul", [reset, state]), candidate)
            new = b.op("Tanh", [b.op("Add", [u.columns(row, 2), inner])])
            kept = b.op("Mul", [update, b.op("Sub", [state, new])])
            state = found[t] = b.op("Add", [new, kept])
        results.append(found)
        last.append(state)
    u.finish(results, [last])
    return True


@rule("LSTM, one step after the other", "LSTM")
def lstm(b: RuleBuilder, node: Node) -> bool:
    u = _Unrolled(b, node, 4)
    if not u.is_plain() or node.input(7) is not None:
        return False
    size = u.hidden
    results: list[dict[int, Value]] = []
    states: list[Value] = []
    cells: list[Value] = []
    for way in range(len(u.ways)):
        added = u.bias[way, : 4 * size] + u.bias[way, 4 * size :]
        inputs = b.op("Add", [u.times(u.flat, u.weights[way]), b.constant(added)])
        state, cell, found = u.state(5, way), u.state(6, way), {}
        for t in u.order(way):
            row = b.op("Add", [u.rows(inputs, t), u.times(state, u.recurrent[way])])
            gates = b.op("Sigmoid", [u.columns(row, 0, 3)])
            new = b.op("Mul", [u.columns(gates, 0), b.op("Tanh", [u.columns(row, 3)])])
            cell = b.op("Add", [b.op("Mul", [u.columns(gates, 2), cell]), new])
            state = found[t] = b.op("Mul", [u.columns(gates, 1), b.op("Tanh", [cell])])
        results.append(found)
        states.append(state)
        cells.append(cell)
    u.finish(results, [states, cells])
    return True
