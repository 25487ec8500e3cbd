"""RNN, GRU and LSTM, step by step: QNN's own recurrent operations are not offered on the HTP in all their forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.infinities import is_real
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS

MOST_STEPS = 128
"""Each is a dozen operations or more."""

_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass
class _Direction:
    """One direction of a recurrent node.

    Attributes:
        weights: (input, gates * hidden).
        recurrence: (hidden, gates * hidden).
        bias: (1, gates * hidden) each, of the input and of the hidden state; None for zeros.
        peepholes: (1, hidden) each, for the gates i, o and f.
    """

    weights: QTensor
    recurrence: QTensor
    bias: tuple[QTensor, QTensor] | None
    peepholes: tuple[QTensor, QTensor, QTensor] | None


class _Recurrent(Chain):
    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        self.context = context
        self.kind = context.node.op_type
        self.hidden = int(context.attr("hidden_size") or context.shape(2)[-1])
        self.directions = context.shape(1)[0]
        self.is_batch_first = bool(context.attr("layout", 0))
        shape = context.shape(0)
        self.batch, self.steps = (shape[0], shape[1]) if self.is_batch_first else (shape[1], shape[0])
        self._require_plain()

    def _require_plain(self) -> None:
        context, kind = self.context, self.kind
        if context.is_quantized or not is_real(context.dtype()):
            raise DeclinedError(f"{kind} is offered for real numbers only")
        given = [str(name) for name in context.attr("activations") or _DEFAULTS[kind] * self.directions]
        if [name.lower() for name in given] != [name.lower() for name in _DEFAULTS[kind] * self.directions]:
            raise DeclinedError(f"{kind} with other activations than the usual ones is not offered")
        if context.attr("clip") is not None or context.attr("input_forget", 0):
            raise DeclinedError(f"{kind} with clip or input_forget is not offered")
        if context.has(4):
            raise DeclinedError(f"{kind} with lengths of its own for each sequence is not offered")
        if self.steps > MOST_STEPS:
            raise DeclinedError(f"{kind} over more than {MOST_STEPS} steps is not offered")

    def part(self, x: QTensor, axis: int, begin: int, end: int) -> QTensor:
        """A slice of one axis."""
        if (begin, end) == (0, x.shape[axis]):
            return x
        ranges = np.array([(begin, end, 1) if other == axis else (0, size, 1) for other, size in enumerate(x.shape)])
        shape = (*x.shape[:axis], end - begin, *x.shape[axis + 1 :])
        return self.shaped("StridedSlice", (x,), shape, x.data_type, ranges=ranges.astype(np.int32))

    def direction(self, index: int) -> _Direction:
        context, width = self.context, _GATES[self.kind] * self.hidden
        weights, recurrence = (
            context.reshaped(self.part(context.x(at, (0, 2, 1)), 0, index, index + 1), (inner, width))
            for at, inner in ((1, context.shape(1)[2]), (2, self.hidden))
        )
        bias = peepholes = None
        if context.has(3):
            both = self.part(context.x(3), 0, index, index + 1)
            bias = self.part(both, 1, 0, width), self.part(both, 1, width, 2 * width)
        if self.kind == "LSTM" and context.has(7):
            held, size = self.part(context.x(7), 0, index, index + 1), self.hidden
            peepholes = (
                self.part(held, 1, 0, size),
                self.part(held, 1, size, 2 * size),
                self.part(held, 1, 2 * size, 3 * size),
            )
        return _Direction(weights, recurrence, bias, peepholes)

    def initial(self, at: int, index: int) -> QTensor:
        """(batch, hidden): what a state begins with."""
        context = self.context
        if not context.has(at):
            return context.constant(np.zeros((self.batch, self.hidden), context.dtype().numpy), "zeros")
        axis = 1 if self.is_batch_first else 0
        return context.reshaped(self.part(context.x(at), axis, index, index + 1), (self.batch, self.hidden))

    def step_input(self, step: int) -> QTensor:
        """(batch, input) of one step."""
        axis = 1 if self.is_batch_first else 0
        found = self.part(self.context.x(0), axis, step, step + 1)
        return self.context.reshaped(found, (self.batch, found.shape[-1]))

    def product(self, x: QTensor, matrix: QTensor, bias: QTensor | None) -> QTensor:
        found = self.shaped("MatMul", (x, matrix), (x.shape[0], matrix.shape[1]), x.data_type)
        return found if bias is None else self.op("ElementWiseAdd", found, bias)

    def gate(self, x: QTensor, index: int) -> QTensor:
        return self.part(x, 1, index * self.hidden, (index + 1) * self.hidden)

    def add(self, left: QTensor, right: QTensor) -> QTensor:
        return self.op("ElementWiseAdd", left, right)

    def multiply(self, left: QTensor, right: QTensor) -> QTensor:
        return self.op("ElementWiseMultiply", left, right)

    # --- the cells ------------------------------------------------------------------------------------------------

    def simple(self, given: _Direction, x: QTensor, hidden: QTensor, cell: QTensor | None) -> tuple[QTensor, None]:
        """tanh(x W + h R + b)"""
        del cell
        bias = given.bias or (None, None)
        total = self.add(self.product(x, given.weights, bias[0]), self.product(hidden, given.recurrence, bias[1]))
        return self.op("Tanh", total), None

    def gated(self, given: _Direction, x: QTensor, hidden: QTensor, cell: QTensor | None) -> tuple[QTensor, None]:
        """The gates z, r and h."""
        del cell
        bias = given.bias or (None, None)
        size = self.hidden
        brought = self.product(x, given.weights, bias[0])
        if self.context.attr("linear_before_reset", 0):
            held = self.product(hidden, given.recurrence, bias[1])
            update, reset = (self.op("Sigmoid", self.add(self.gate(brought, at), self.gate(held, at))) for at in (0, 1))
            new = self.add(self.gate(brought, 2), self.multiply(reset, self.gate(held, 2)))
        else:
            gates = None if bias[1] is None else self.part(bias[1], 1, 0, 2 * size)
            rest = None if bias[1] is None else self.gate(bias[1], 2)
            held = self.product(hidden, self.part(given.recurrence, 1, 0, 2 * size), gates)
            update, reset = (self.op("Sigmoid", self.add(self.gate(brought, at), self.gate(held, at))) for at in (0, 1))
            matrix = self.part(given.recurrence, 1, 2 * size, 3 * size)
            new = self.add(self.gate(brought, 2), self.product(self.multiply(reset, hidden), matrix, rest))
        new = self.op("Tanh", new)
        kept = self.multiply(update, self.op("ElementWiseSubtract", hidden, new))
        return self.add(new, kept), None

    def long(self, given: _Direction, x: QTensor, hidden: QTensor, cell: QTensor | None) -> tuple[QTensor, QTensor]:
        """The gates i, o, f and c."""
        assert cell is not None
        bias = given.bias or (None, None)
        total = self.add(self.product(x, given.weights, bias[0]), self.product(hidden, given.recurrence, bias[1]))
        entering, leaving, keeping, new = (self.gate(total, index) for index in range(4))
        if given.peepholes is not None:
            entering = self.add(entering, self.multiply(cell, given.peepholes[0]))
            keeping = self.add(keeping, self.multiply(cell, given.peepholes[2]))
        cell = self.add(
            self.multiply(self.op("Sigmoid", keeping), cell),
            self.multiply(self.op("Sigmoid", entering), self.op("Tanh", new)),
        )
        if given.peepholes is not None:
            leaving = self.add(leaving, self.multiply(cell, given.peepholes[1]))
        return self.multiply(self.op("Sigmoid", leaving), self.op("Tanh", cell)), cell


def _recurrent(context: NodeContext) -> None:
    it = _Recurrent(context)
    cell_of = {"RNN": it.simple, "GRU": it.gated, "LSTM": it.long}[it.kind]
    backwards = [context.attr("direction", "forward") == "reverse", True]
    history: list[list[QTensor]] = []
    ends: list[QTensor] = []
    cells: list[QTensor] = []
    for index in range(it.directions):
        given = it.direction(index)
        hidden = it.initial(5, index)
        cell = it.initial(6, index) if it.kind == "LSTM" else None
        order = range(it.steps)
        made: dict[int, QTensor] = {}
        for step in reversed(order) if backwards[index] else order:
            hidden, cell = cell_of(given, it.step_input(step), hidden, cell)
            made[step] = hidden
        history.append([made[step] for step in order])
        ends.append(hidden)
        cells += [] if cell is None else [cell]
    axis = 1 if it.is_batch_first else 0
    if context.node.output(0) is not None:
        steps = [_joined(context, [row[step] for row in history], 1) for step in range(it.steps)]
        _give(context, 0, steps, axis)
    for index, states in ((1, ends), (2, cells)):
        if context.node.output(index) is not None:
            _give(context, index, states, axis)


def _joined(context: NodeContext, states: list[QTensor], axis: int) -> QTensor:
    """(batch, directions, hidden)"""
    parts = [context.reshaped(state, (state.shape[0], 1, state.shape[1])) for state in states]
    if len(parts) == 1:
        return parts[0]
    shape = (parts[0].shape[0], len(parts), parts[0].shape[2])
    return Chain(context).shaped("Concat", tuple(parts), shape, parts[0].data_type, axis=np.uint32(axis))


def _give(context: NodeContext, index: int, parts: list[QTensor], axis: int) -> None:
    """A result that has ``parts`` along an axis."""
    out = context.out_shape(index)
    whole = tuple(1 if at == axis else size for at, size in enumerate(out))
    if len(out) == 4 and axis == 0:  # (steps, directions, batch, hidden)
        parts = [_turned(context, part) for part in parts]
    placed = [context.reshaped(part, whole) for part in parts]
    if len(placed) == 1:
        context.emit("Reshape", [placed[0]], index=index)
    else:
        context.emit("Concat", placed, index=index, axis=np.uint32(axis))


def _turned(context: NodeContext, x: QTensor) -> QTensor:
    """(batch, directions, hidden) as (directions, batch, hidden)."""
    batch, directions, hidden = x.shape
    if batch == 1 or directions == 1:
        return context.reshaped(x, (directions, batch, hidden))
    return Chain(context).shaped(
        "Transpose", (x,), (directions, batch, hidden), x.data_type, perm=np.array([1, 0, 2], np.uint32)
    )


LOWERINGS.add(dict.fromkeys(_GATES, _recurrent))
