"""Argument words of the direct convolution, apart from its generator so that lowerings need not import llvmlite."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mace_cpu.shared.precision import PairUnit


class Arg(enum.IntEnum):
    """Word by word.  Distances are in floats; blocks are channel blocks, or single channels of a plain input."""

    INPUT = 0
    WEIGHTS = enum.auto()  # [group][channel tile][in block][kernel row][tap][step of the run][columns]
    BIAS = enum.auto()  # [group][channel tile][columns]
    OUTPUT = enum.auto()
    SCRATCH = enum.auto()
    SCRATCH_FLOATS = enum.auto()  # per chunk: the window, then sums between passes
    WINDOW_FLOATS = enum.auto()
    OC_TILES = enum.auto()  # per group
    ALL_OC_TILES = enum.auto()
    OUT_ROWS = enum.auto()
    ROW_GROUPS = enum.auto()
    GROUP_ROWS = enum.auto()  # rows per unit
    PASS_BLOCKS = enum.auto()  # input blocks summed up before the weights change
    TILE_FETCH = enum.auto()  # how much of the next pass's weights to fetch during each tile
    STEPS_FETCH = enum.auto()  # how much of that every few steps
    INPUT_AHEAD = enum.auto()  # how far ahead of a tile's window to fetch input; 0: not at all
    SEGMENTS = enum.auto()  # stretches per output row
    OUT_WIDTH = enum.auto()
    BAND = enum.auto()  # positions per band
    POSITIONS = enum.auto()  # images * row groups * segments
    SEGMENT_TILES = enum.auto()
    IN_ROWS = enum.auto()
    IN_WIDTH = enum.auto()
    IN_BLOCKS = enum.auto()  # per group
    IN_IMAGE = enum.auto()  # from image to image
    KERNEL_ROWS = enum.auto()
    ROW_DILATION = enum.auto()
    ROW_STRIDE = enum.auto()
    PAD_TOP = enum.auto()
    PAD_LEFT = enum.auto()
    TAPS = enum.auto()  # runs per kernel row
    TAP_STEP = enum.auto()  # from run to run in the input
    RUN = enum.auto()  # steps over consecutive floats of the input
    LAST_RUN = enum.auto()  # in the last block, which may not be full
    WINDOW_WIDTH = enum.auto()  # pixels a tile sees in one row
    OUT_BLOCKS = enum.auto()  # per group
    FIRST_OUT_BLOCK = enum.auto()  # of each group, where this step begins
    OUT_IMAGE = enum.auto()
    OUT_BLOCK = enum.auto()
    OUT_ROW = enum.auto()
    OUT_PIXEL = enum.auto()
    PAIR_OUTPUT = enum.auto()  # where the results go as bfloat16, if they do
    PAIR_IMAGE = enum.auto()  # from image to image there, and in tensors of bfloat16
    LONE_BLOCK = enum.auto()  # the last block, if it is the first of its pair; else -1
    KEPT = enum.auto()  # table of int32: where in its run each row of weights is to be multiplied, if not one by one


@dataclass(frozen=True, slots=True)
class Variant:
    """What the code of a direct convolution depends on.

    Attributes:
        rows: output pixels per tile.
        blocks: channel blocks per tile.
        block: channels per block.
        stride: horizontal stride.
        plain_input: the input is row-major, so that pixels of one channel lie next to each other.
        unroll: steps per turn of the innermost loop.
        unit: what multiplies pairs of bfloat16, in words that count as floats everywhere else; None: float32.
        stores: what is stored: "floats", "pairs" of bfloat16, or "both".
        pair_tensors: of each tensor of the epilogue, whether it is bfloat16; those not named are not.
        kept: only some steps of each run are multiplied, those in a table.
        one_tap: the kernel has one tap.  Then the table counts channels of all blocks of a pass.
    """

    rows: int
    blocks: int
    block: int
    stride: int
    plain_input: bool
    unroll: int
    unit: PairUnit | None = None
    stores: str = "floats"
    pair_tensors: tuple[bool, ...] = ()
    kept: bool = False
    one_tap: bool = False
