"""LSTM, GRU and RNN: the recurrent part, after the input's products have been computed for all steps.

One unit is one sequence in one direction.  Words: see `mace_cpu.recurrent.arguments`.
All arrays have one float type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, as_float, helper, i32, i64, stop_requested
from mace_cpu.recurrent.arguments import PARAMETERS, Arg
from mace_cpu.recurrent.kernels_functions import exp32, sigmoid32, tanh32
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, quotient

KERNEL_DEPENDENCIES = (
    "mace_cpu.shared.kernels.primitives",
    "mace_cpu.recurrent.kernels_functions",
    "mace_cpu.recurrent.arguments",
)

(
    PROJECTED, RECURRENT, BIAS, PEEPHOLES, LENGTHS, FIRST_HIDDEN, FIRST_CELL, OUTPUT, LAST_HIDDEN, LAST_CELL, SCRATCH,
    STEPS, BATCH, HIDDEN, DIRECTIONS, REVERSED, ROW_STEP, ROW_BATCH, OUT_STEP, OUT_BATCH, OUT_DIRECTION, STATE_BATCH,
    STATE_DIRECTION, CLIP, VARIANT, STATUS, FIRST_DIRECTION, _INNER, _PANELS, _INNER_PANELS, _ROOM,
) = (int(arg) for arg in Arg)  # fmt: skip


@helper
def exp64(x: Any) -> Any:
    return math.exp(x)


@helper
def sigmoid64(x: Any) -> Any:
    return 1.0 / (1.0 + math.exp(-x))


@helper
def tanh64(x: Any) -> Any:
    return math.tanh(x)


def _function(dtype: str, name: str) -> Any:
    """``(x, alpha, beta)``: an activation of one number."""
    scalar = SCALARS[dtype]
    exp, sigmoid, tanh = (exp32, sigmoid32, tanh32) if dtype == "float32" else (exp64, sigmoid64, tanh64)
    zero, one = scalar(0), scalar(1)
    functions: dict[str, Any] = {
        "sigmoid": lambda x, alpha, beta: sigmoid(x),
        "tanh": lambda x, alpha, beta: tanh(x),
        "relu": lambda x, alpha, beta: max(x, zero),
        "affine": lambda x, alpha, beta: alpha * x + beta,
        "leakyrelu": lambda x, alpha, beta: x if x >= zero else alpha * x,
        "thresholdedrelu": lambda x, alpha, beta: x if x >= alpha else zero,
        "scaledtanh": lambda x, alpha, beta: alpha * tanh(beta * x),
        "hardsigmoid": lambda x, alpha, beta: min(max(alpha * x + beta, zero), one),
        "elu": lambda x, alpha, beta: x if x >= zero else alpha * (exp(x) - one),
        "softsign": lambda x, alpha, beta: x / (one + abs(x)),
        # log(1 + e^x) without overflow
        "softplus": lambda x, alpha, beta: scalar(max(x, zero) + math.log1p(exp(-abs(x)))),
    }
    return helper(functions[name])


def _activation(dtype: str, name: str) -> Any:
    """``(pointer, first, count, alpha, beta, clip)``: applies an activation in place; clip < 0 means none."""
    function = _function(dtype, name)
    zero = SCALARS[dtype](0)

    @helper
    def activate(p: Any, first: Any, count: Any, alpha: Any, beta: Any, clip: Any) -> None:
        if clip >= zero:
            for i in range(first, first + count):
                p[i] = min(max(p[i], -clip), clip)
        for i in range(first, first + count):
            p[i] = function(p[i], alpha, beta)

    return activate


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


def recurrent(dtype: str, cell: str, functions: str) -> Kernel:
    """The kernel of one cell, "lstm", "gru" or "rnn", with its activations, joined by "-"."""
    pointer, scalar, nbytes = POINTERS[dtype], SCALARS[dtype], np.dtype(dtype).itemsize
    names = functions.split("-")
    made = {name: _activation(dtype, name) for name in names}
    activations = [made[name] for name in names]
    # what a cell does not have is never called
    activate, activate_second, activate_third = (activations * 3)[:3]
    count = len(activations)
    lstm, gru = cell == "lstm", cell == "gru"
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    one, unlimited = scalar(1), scalar(-1)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        steps, batch, hidden = args[STEPS], args[BATCH], args[HIDDEN]
        width = gates * hidden
        out_step = args[OUT_STEP]
        clip = scalar(as_float(args[CLIP]))
        variant = args[VARIANT] != 0
        lengths = i32(args[LENGTHS])
        # per chunk: gates, one more vector (GRU), hidden state, cell state
        room = width + 3 * hidden
        work = pointer(args[SCRATCH] + chunk * room * nbytes)
        spare = width
        state = width + hidden
        memory = width + 2 * hidden
        spent = 0
        for unit in range(begin, end):
            group = quotient(unit, batch)
            item = unit - group * batch
            direction = group + args[FIRST_DIRECTION]
            backward = args[REVERSED] != 0 or direction == 1
            projected = pointer(args[PROJECTED] + (item * args[ROW_BATCH] + direction * width) * nbytes)
            matrix = pointer(args[RECURRENT] + direction * hidden * width * nbytes)
            bias = pointer(args[BIAS] + direction * 2 * width * nbytes)
            peepholes = pointer(args[PEEPHOLES] + direction * 3 * hidden * nbytes)
            output = pointer(args[OUTPUT] + (item * args[OUT_BATCH] + direction * args[OUT_DIRECTION]) * nbytes)
            state_at = (item * args[STATE_BATCH] + direction * args[STATE_DIRECTION]) * nbytes
            f = PARAMETERS + 2 * count * direction
            length = steps
            if args[LENGTHS] != 0:
                length = np.int64(lengths[item])
                if length < 0 or length > steps:
                    status = i64(args[STATUS])
                    status[0] = 1
                    status[1] = length
                    length = 0
            for i in range(hidden):
                work[state + i] = scalar(0)
                work[memory + i] = scalar(0)
            if args[FIRST_HIDDEN] != 0:
                first = pointer(args[FIRST_HIDDEN] + state_at)
                for i in range(hidden):
                    work[state + i] = first[i]
            if args[FIRST_CELL] != 0:
                first = pointer(args[FIRST_CELL] + state_at)
                for i in range(hidden):
                    work[memory + i] = first[i]
            for turn in range(length):
                t = length - 1 - turn if backward else turn
                base = t * args[ROW_STEP]
                spent += width * (8 + hidden)
                if spent > POLL_WORK:
                    spent = 0
                    if stop_requested(args):
                        return
                for j in range(width):
                    work[j] = projected[base + j] + bias[j]
                if lstm:
                    for j in range(width):
                        work[j] += bias[width + j]
                    add_product(work, 0, work, state, matrix, width, width, hidden)
                    for j in range(hidden):
                        work[j] += peepholes[j] * work[memory + j]
                        work[2 * hidden + j] += peepholes[2 * hidden + j] * work[memory + j]
                    alpha, beta = scalar(as_float(args[f])), scalar(as_float(args[f + 1]))
                    activate(work, 0, hidden, alpha, beta, clip)
                    if variant:
                        for j in range(hidden):
                            work[2 * hidden + j] = one - work[j]
                    else:
                        activate(work, 2 * hidden, hidden, alpha, beta, clip)
                    g_alpha, g_beta = scalar(as_float(args[f + 2])), scalar(as_float(args[f + 3]))
                    activate_second(work, 3 * hidden, hidden, g_alpha, g_beta, clip)
                    for j in range(hidden):
                        value = work[2 * hidden + j] * work[memory + j] + work[j] * work[3 * hidden + j]
                        work[memory + j] = value
                        work[state + j] = value
                        work[hidden + j] += peepholes[hidden + j] * value
                    activate(work, hidden, hidden, alpha, beta, clip)
                    h_alpha, h_beta = scalar(as_float(args[f + 4])), scalar(as_float(args[f + 5]))
                    # the gates are clipped, the cell state is not: as onnxruntime has it
                    activate_third(work, state, hidden, h_alpha, h_beta, unlimited)
                    for j in range(hidden):
                        work[state + j] *= work[hidden + j]
                elif gru:
                    for j in range(2 * hidden):
                        work[j] += bias[width + j]
                    add_product(work, 0, work, state, matrix, width, 2 * hidden, hidden)
                    alpha, beta = scalar(as_float(args[f])), scalar(as_float(args[f + 1]))
                    activate(work, 0, 2 * hidden, alpha, beta, clip)
                    inner = pointer(args[RECURRENT] + (direction * hidden * width + 2 * hidden) * nbytes)
                    if variant:
                        for j in range(hidden):
                            work[spare + j] = bias[width + 2 * hidden + j]
                        add_product(work, spare, work, state, inner, width, hidden, hidden)
                        for j in range(hidden):
                            work[2 * hidden + j] += work[hidden + j] * work[spare + j]
                    else:
                        for j in range(hidden):
                            work[spare + j] = work[hidden + j] * work[state + j]
                            work[2 * hidden + j] += bias[width + 2 * hidden + j]
                        add_product(work, 2 * hidden, work, spare, inner, width, hidden, hidden)
                    g_alpha, g_beta = scalar(as_float(args[f + 2])), scalar(as_float(args[f + 3]))
                    activate_second(work, 2 * hidden, hidden, g_alpha, g_beta, clip)
                    for j in range(hidden):
                        work[state + j] = (one - work[j]) * work[2 * hidden + j] + work[j] * work[state + j]
                else:
                    for j in range(width):
                        work[j] += bias[width + j]
                    add_product(work, 0, work, state, matrix, width, width, hidden)
                    alpha, beta = scalar(as_float(args[f])), scalar(as_float(args[f + 1]))
                    activate(work, 0, hidden, alpha, beta, clip)
                    for j in range(hidden):
                        work[state + j] = work[j]
                if args[OUTPUT] != 0:
                    for j in range(hidden):
                        output[t * out_step + j] = work[state + j]
            if args[OUTPUT] != 0:
                for t in range(length, steps):
                    for j in range(hidden):
                        output[t * out_step + j] = scalar(0)
            if args[LAST_HIDDEN] != 0:
                last = pointer(args[LAST_HIDDEN] + state_at)
                for j in range(hidden):
                    last[j] = work[state + j]
            if args[LAST_CELL] != 0:
                last = pointer(args[LAST_CELL] + state_at)
                for j in range(hidden):
                    last[j] = work[memory + j]

    kernel.__fastmath__ = {"contract"}  # type: ignore[attr-defined]
    return kernel
