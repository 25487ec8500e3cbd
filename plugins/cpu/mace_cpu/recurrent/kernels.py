"""LSTM, GRU and RNN in float64: the recurrent part, after the input's products have been computed for all steps.

One unit is one sequence in one direction.  Words: see `mace_cpu.recurrent.arguments`.

Scratch memory holds, one after another: the gates, a vector to spare, the hidden state and the cell state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, as_float, f64, helper, i32, i64, stop_requested
from mace_cpu.recurrent.arguments import PARAMETERS, Arg
from mace_cpu.shared.kernels.primitives import quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.recurrent.arguments")

(
    PROJECTED, RECURRENT, BIAS, PEEPHOLES, LENGTHS, FIRST_HIDDEN, FIRST_CELL, OUTPUT, LAST_HIDDEN, LAST_CELL, SCRATCH,
    STEPS, BATCH, HIDDEN, DIRECTIONS, REVERSED, ROW_STEP, ROW_BATCH, OUT_STEP, OUT_BATCH, OUT_DIRECTION, STATE_BATCH,
    STATE_DIRECTION, CLIP, VARIANT, STATUS, FIRST_DIRECTION, _INNER, _PANELS, _INNER_PANELS, _ROOM, _SUMS,
    _ZEROS, _SCALES,
) = (int(arg) for arg in Arg)  # fmt: skip

NBYTES = 8
UNLIMITED = -1.0
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


class Weights(NamedTuple):
    """What the sequences of one direction are computed with.

    Attributes:
        hidden: elements of a state.
        width: elements of all gates together.
        matrix: R transposed, (hidden, width).
        inner: its last gate's columns.
        bias: of the input's products, then of the state's, (2, width).
        peepholes: (3, hidden).
        parameters: the word where alpha and beta of the activations begin.
        clip: what goes into a gate's activation is kept within this; negative: not at all.
        variant: input_forget (LSTM), linear_before_reset (GRU).
    """

    hidden: Any
    width: Any
    matrix: Any
    inner: Any
    bias: Any
    peepholes: Any
    parameters: Any
    clip: Any
    variant: Any


def recurrent(cell: str, functions: str) -> Kernel:
    """The kernel of one cell, "lstm", "gru" or "rnn", with its activations, joined by "-"."""
    names = functions.split("-")
    made = {name: _activation(name) for name in names}
    cells: dict[str, Callable[..., Any]] = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
    advance = cells[cell](*(made[name] for name in names))
    count = len(names)
    gates = GATES[cell]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        steps, batch, hidden = args[STEPS], args[BATCH], args[HIDDEN]
        width = gates * hidden
        out_step = args[OUT_STEP]
        work = f64(args[SCRATCH] + chunk * (width + 3 * hidden) * NBYTES)
        state = width + hidden
        memory = width + 2 * hidden
        spent = 0
        for unit in range(begin, end):
            group = quotient(unit, batch)
            item = unit - group * batch
            direction = group + args[FIRST_DIRECTION]
            backward = args[REVERSED] != 0 or direction == 1
            projected = f64(args[PROJECTED] + (item * args[ROW_BATCH] + direction * width) * NBYTES)
            output = f64(args[OUTPUT] + (item * args[OUT_BATCH] + direction * args[OUT_DIRECTION]) * NBYTES)
            state_at = (item * args[STATE_BATCH] + direction * args[STATE_DIRECTION]) * NBYTES
            weights = Weights(
                hidden,
                width,
                f64(args[RECURRENT] + direction * hidden * width * NBYTES),
                f64(args[RECURRENT] + (direction * hidden * width + width - hidden) * NBYTES),
                f64(args[BIAS] + direction * 2 * width * NBYTES),
                f64(args[PEEPHOLES] + direction * 3 * hidden * NBYTES),
                PARAMETERS + 2 * count * direction,
                as_float(args[CLIP]),
                args[VARIANT] != 0,
            )
            length = _length(args, item)
            _load_state(work, state, args[FIRST_HIDDEN], state_at, hidden)
            _load_state(work, memory, args[FIRST_CELL], state_at, hidden)
            for turn in range(length):
                t = length - 1 - turn if backward else turn
                base = t * args[ROW_STEP]
                spent += width * (8 + hidden)
                if spent > POLL_WORK:
                    spent = 0
                    if stop_requested(args):
                        return
                for j in range(width):
                    work[j] = projected[base + j] + weights.bias[j]
                advance(work, args, weights)
                if args[OUTPUT] != 0:
                    for j in range(hidden):
                        output[t * out_step + j] = work[state + j]
            if args[OUTPUT] != 0:
                for t in range(length, steps):
                    for j in range(hidden):
                        output[t * out_step + j] = 0.0
            _store_state(work, state, args[LAST_HIDDEN], state_at, hidden)
            _store_state(work, memory, args[LAST_CELL], state_at, hidden)

    kernel.__fastmath__ = {"contract"}  # type: ignore[attr-defined]
    return kernel


@helper(inline="always")  # type: ignore[untyped-decorator]
def _length(args: Any, item: Any) -> Any:
    """How many steps a sequence has; a length that cannot be is reported, and taken as 0."""
    length = args[STEPS]
    if args[LENGTHS] != 0:
        length = np.int64(i32(args[LENGTHS])[item])
        if length < 0 or length > args[STEPS]:
            status = i64(args[STATUS])
            status[0] = 1
            status[1] = length
            length = 0
    return length


@helper(inline="always")  # type: ignore[untyped-decorator]
def _load_state(work: Any, at: Any, address: Any, offset: Any, hidden: Any) -> None:
    """Begin with the state at ``address + offset``, or with zeros where ``address`` is 0."""
    if address != 0:
        first = f64(address + offset)
        for i in range(hidden):
            work[at + i] = first[i]
    else:
        for i in range(hidden):
            work[at + i] = 0.0


@helper(inline="always")  # type: ignore[untyped-decorator]
def _store_state(work: Any, at: Any, address: Any, offset: Any, hidden: Any) -> None:
    """Store a state at ``address + offset`` unless ``address`` is 0."""
    if address != 0:
        last = f64(address + offset)
        for i in range(hidden):
            last[i] = work[at + i]


# --- cells ------------------------------------------------------------------------------------------------------------
#
# Each gives ``(work, args, weights)``, which takes the states one step further: the gates hold the input's products and
# the first of the two biases.


def _lstm(activate: Any, activate_cell: Any, activate_hidden: Any) -> Any:
    """The gates are input, output, forget and cell."""

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def advance(work: Any, args: Any, weights: Any) -> None:
        hidden, width, clip, f = weights.hidden, weights.width, weights.clip, weights.parameters
        peepholes = weights.peepholes
        state = width + hidden
        memory = width + 2 * hidden
        for j in range(width):
            work[j] += weights.bias[width + j]
        add_product(work, 0, work, state, weights.matrix, width, width, hidden)
        for j in range(hidden):
            work[j] += peepholes[j] * work[memory + j]
            work[2 * hidden + j] += peepholes[2 * hidden + j] * work[memory + j]
        alpha, beta = as_float(args[f]), as_float(args[f + 1])
        activate(work, 0, hidden, alpha, beta, clip)
        if weights.variant:
            for j in range(hidden):
                work[2 * hidden + j] = 1.0 - work[j]
        else:
            activate(work, 2 * hidden, hidden, alpha, beta, clip)
        activate_cell(work, 3 * hidden, hidden, as_float(args[f + 2]), as_float(args[f + 3]), clip)
        for j in range(hidden):
            value = work[2 * hidden + j] * work[memory + j] + work[j] * work[3 * hidden + j]
            work[memory + j] = value
            work[state + j] = value
            work[hidden + j] += peepholes[hidden + j] * value
        activate(work, hidden, hidden, alpha, beta, clip)
        # the gates are clipped, the cell state is not: as onnxruntime has it
        activate_hidden(work, state, hidden, as_float(args[f + 4]), as_float(args[f + 5]), UNLIMITED)
        for j in range(hidden):
            work[state + j] *= work[hidden + j]

    return advance


def _gru(activate: Any, activate_hidden: Any) -> Any:
    """The gates are update, reset and hidden."""

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def advance(work: Any, args: Any, weights: Any) -> None:
        hidden, width, clip, f = weights.hidden, weights.width, weights.clip, weights.parameters
        spare = width
        state = width + hidden
        inner = 2 * hidden  # the columns of the hidden gate
        for j in range(2 * hidden):
            work[j] += weights.bias[width + j]
        add_product(work, 0, work, state, weights.matrix, width, 2 * hidden, hidden)
        activate(work, 0, 2 * hidden, as_float(args[f]), as_float(args[f + 1]), clip)
        if weights.variant:
            for j in range(hidden):
                work[spare + j] = weights.bias[width + inner + j]
            add_product(work, spare, work, state, weights.inner, width, hidden, hidden)
            for j in range(hidden):
                work[inner + j] += work[hidden + j] * work[spare + j]
        else:
            for j in range(hidden):
                work[spare + j] = work[hidden + j] * work[state + j]
                work[inner + j] += weights.bias[width + inner + j]
            add_product(work, inner, work, spare, weights.inner, width, hidden, hidden)
        activate_hidden(work, inner, hidden, as_float(args[f + 2]), as_float(args[f + 3]), clip)
        for j in range(hidden):
            work[state + j] = (1.0 - work[j]) * work[inner + j] + work[j] * work[state + j]

    return advance


def _rnn(activate: Any) -> Any:
    """One gate, which becomes the hidden state."""

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def advance(work: Any, args: Any, weights: Any) -> None:
        hidden, width, f = weights.hidden, weights.width, weights.parameters
        state = width + hidden
        for j in range(width):
            work[j] += weights.bias[width + j]
        add_product(work, 0, work, state, weights.matrix, width, width, hidden)
        activate(work, 0, hidden, as_float(args[f]), as_float(args[f + 1]), weights.clip)
        for j in range(hidden):
            work[state + j] = work[j]

    return advance


@helper
def add_product(
    target: Any, first: Any, vector: Any, start: Any, matrix: Any, row: Any, columns: Any, count: Any
) -> None:
    """``target[first:] += vector[start:] @ matrix``: ``count`` rows of ``columns`` elements, ``row`` apart."""
    whole = count - count % 4
    for k in range(0, whole, 4):
        a, b, c, d = vector[start + k], vector[start + k + 1], vector[start + k + 2], vector[start + k + 3]
        base = k * row
        for j in range(columns):
            target[first + j] += (
                a * matrix[base + j]
                + b * matrix[base + row + j]
                + c * matrix[base + 2 * row + j]
                + d * matrix[base + 3 * row + j]
            )
    for k in range(whole, count):
        a = vector[start + k]
        for j in range(columns):
            target[first + j] += a * matrix[k * row + j]


# --- activations ------------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Any] = {
    "sigmoid": lambda x, alpha, beta: 1.0 / (1.0 + math.exp(-x)),
    "tanh": lambda x, alpha, beta: math.tanh(x),
    "relu": lambda x, alpha, beta: max(x, 0.0),
    "affine": lambda x, alpha, beta: alpha * x + beta,
    "leakyrelu": lambda x, alpha, beta: x if x >= 0.0 else alpha * x,
    "thresholdedrelu": lambda x, alpha, beta: x if x >= alpha else 0.0,
    "scaledtanh": lambda x, alpha, beta: alpha * math.tanh(beta * x),
    "hardsigmoid": lambda x, alpha, beta: min(max(alpha * x + beta, 0.0), 1.0),
    "elu": lambda x, alpha, beta: x if x >= 0.0 else alpha * (math.exp(x) - 1.0),
    "softsign": lambda x, alpha, beta: x / (1.0 + abs(x)),
    # log(1 + e^x) without overflow
    "softplus": lambda x, alpha, beta: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
}


def _activation(name: str) -> Any:
    """``(pointer, first, count, alpha, beta, clip)``: applies an activation in place; clip < 0 means none."""
    function = helper(FUNCTIONS[name])

    @helper
    def activate(p: Any, first: Any, count: Any, alpha: Any, beta: Any, clip: Any) -> None:
        if clip >= 0.0:
            for i in range(first, first + count):
                p[i] = min(max(p[i], -clip), clip)
        for i in range(first, first + count):
            p[i] = function(p[i], alpha, beta)

    return activate
