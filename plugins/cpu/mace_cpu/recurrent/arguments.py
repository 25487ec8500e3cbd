"""The argument words of the recurrent kernels, in order.  Imports nothing heavy: lowering and kernels share it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_core.native.kernel_words import Run, WordLayout

PANEL_VECTORS = 8
"""Vectors of gates that the generated kernels hold in registers."""


class Arg(enum.IntEnum):
    """Addresses may be 0 where the node leaves the tensor out; strides are in elements."""

    PROJECTED = 0  # input times W for all steps: (rows, directions * gates * hidden)
    RECURRENT = 1  # R transposed: (directions, hidden, gates * hidden); generated: panels of the first product;
    # of bytes: [direction][panel][quad][column of the panel][4]
    BIAS = 2  # (directions, 2 * gates * hidden)
    PEEPHOLES = 3  # (directions, 3 * hidden)
    LENGTHS = 4  # int32 (batch,), or 0
    FIRST_HIDDEN = 5  # or 0
    FIRST_CELL = 6  # or 0
    OUTPUT = 7  # or 0
    LAST_HIDDEN = 8  # or 0
    LAST_CELL = 9  # or 0
    SCRATCH = 10  # per chunk (gates + 3) * hidden elements; generated: ROOM
    STEPS = 11
    BATCH = 12
    HIDDEN = 13
    DIRECTIONS = 14
    REVERSED = 15  # 1: the only direction runs backwards
    ROW_STEP = 16  # strides of PROJECTED
    ROW_BATCH = 17
    OUT_STEP = 18  # strides of OUTPUT
    OUT_BATCH = 19
    OUT_DIRECTION = 20
    STATE_BATCH = 21  # strides of the states
    STATE_DIRECTION = 22
    CLIP = 23  # float64 bits; negative: none
    VARIANT = 24  # input_forget (LSTM), linear_before_reset (GRU)
    STATUS = 25
    FIRST_DIRECTION = 26  # that of unit 0
    INNER = 27  # generated GRU: panels of the second product
    PANELS = 28  # generated: panels of the first product
    INNER_PANELS = 29  # generated: panels of the second product, or 0
    ROOM = 30  # generated: elements of scratch memory per chunk
    # of weights of 8 bits, for each direction and column of whole panels:
    SUMS = 31  # int32: of what the weights are more than their zero points, or 0
    ZEROS = 32  # int32: the zero points, or 0
    SCALES = 33  # or 0


PARAMETERS = len(Arg)
"""Where alpha and beta (float64 bits) of each direction and function begin, after all the other words."""


def words_of(functions: int) -> WordLayout:
    """The argument words of a cell that has so many functions per direction."""
    return WordLayout((*WordLayout.of(Arg).runs, Run("parameters", (2, functions, Arg.DIRECTIONS.name.lower()))))


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code depends on.

    Attributes:
        cell: lstm, gru or rnn.
        functions: names of its activations.
        peepholes: an LSTM's gates look at its cell state.
        linear: a GRU applies its reset gate after the product.
        rounded: an LSTM's hidden state is rounded to 8 bits in each step and multiplied with bytes.
        zeros: these have zero points other than 0.
    """

    cell: str
    functions: tuple[str, ...]
    peepholes: bool = False
    linear: bool = False
    rounded: bool = False
    zeros: bool = False
