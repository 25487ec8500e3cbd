"""The turns of a loop as one native call: what leads from one to the next is a table that a kernel walks.

``advance_turn`` (`mace_core.native.turn_kernels`) is called before each turn with the state, see `TurnWords`.
It lets the results of the turn before be the inputs of this one: addresses are exchanged, nothing is copied that does
not have to be.  Sizes that change are computed from those of the turn before, or read from integers that are carried.
Then it says where this turn reads and writes, or why there is none.
"""

from __future__ import annotations

import functools
from typing import NamedTuple


class TurnWords(NamedTuple):
    """Indices of the words of the state: addresses of tables with their lengths, and what changes from turn to turn.

    rows, symbols, registers: a size program and where it computes.
    largest: what the value of a symbol may be at most.
    guards: (register, number, whether it is compared by < instead of ==, outcome): where one comes out otherwise, the
        plan does not hold.
    moves: (symbol, register, room): a size that is, in the next turn, what the register holds in this one.
    contents: (symbol, feed, item, whether it is 64 bits wide): a size that is an element of a feed.
    checks: (feed, item, whether it is 64 bits wide, number): an element of a feed that has to be this number.
    same: registers that are 0 at the end of a turn, else the next one has sizes that are not the plan's.
    sizes: (address, register, whether it is 64 bits wide): integers in memory that follow from the sizes.
    feeds: addresses of what the body is given.
    carried: (feed, address, address, room, room, which of the two is next, register of its bytes).
    scans: (address, bytes written so far, room, register of the bytes of one turn).
    strides: (feed, bytes): a feed that moves on by so much from turn to turn.
    copies: (kind of target, its index, kind of source, its index): results that nobody computes into their place; the
        targets are carried values (0) and scan outputs (1), the sources feeds (0), addresses of
            the turn (1) and other addresses (2).
    shapes, dims: registers of the dimensions of carried values, and where those of the last turn are noted.
    inputs: (kind, index): feeds (0) or addresses (1).  outputs: (kind, index): as targets of copies, or addresses (2).
    addresses: workspace, inputs, outputs of the turn to come.
    condition: index of the address of the byte that ends the loop where it is 0; -1: there is none.
    counter: address of the turn's number; 0: it is not asked for.
    turn, turns: how many have been, and are to be.
    is_begun: whether a turn runs.  is_stale: whether the sizes have changed since something was computed from them.
    end: why there is no next turn, see below.
    arena, arena_room, arena_bytes, workspace_offset: the first two are numbers, the others registers.
    """

    rows: int
    row_count: int
    symbols: int
    registers: int
    guards: int
    guard_count: int
    largest: int
    moves: int
    move_count: int
    contents: int
    content_count: int
    checks: int
    check_count: int
    same: int
    same_count: int
    sizes: int
    size_count: int
    feeds: int
    carried: int
    carried_count: int
    scans: int
    scan_count: int
    strides: int
    stride_count: int
    copies: int
    copy_count: int
    shapes: int
    dims: int
    dim_count: int
    inputs: int
    input_count: int
    outputs: int
    output_count: int
    addresses: int
    condition: int
    counter: int
    turn: int
    turns: int
    is_begun: int
    is_stale: int
    end: int
    arena: int
    arena_room: int
    arena_bytes: int
    workspace_offset: int


W = TurnWords(*range(len(TurnWords._fields)))

GUARD_WORDS, MOVE_WORDS, CONTENT_WORDS, CHECK_WORDS, SIZE_WORDS = 4, 3, 4, 4, 3
CARRIED_WORDS, SCAN_WORDS, STRIDE_WORDS, COPY_WORDS, PLACE_WORDS = 7, 4, 2, 4, 2


class EnterWords(NamedTuple):
    """Indices of the words that `mace_core.native.turn_kernels.enter_stage` is called with before a stage runs:
    addresses of tables with their lengths.

    words: (target, source): addresses of a word to be set and of one to be copied.
    sums: (target, first, second): addresses of a word to be set, and of two that are added.
    equal: addresses of two words; where they differ, the stage's plan does not hold.
    state: of the stage, see `TurnWords`.
    """

    words: int
    word_count: int
    sums: int
    sum_count: int
    equal: int
    equal_count: int
    state: int


E = EnterWords(*range(len(EnterWords._fields)))

WORD_WORDS, SUM_WORDS, EQUAL_WORDS = 2, 3, 2

ON, END_COUNT, END_FALSE, END_SIZES, END_ROOM = range(5)
"""Why there is no next turn: there is one; all have been; the condition is false; the plan does not hold for its sizes;
something needs more room."""


def advance_turn() -> int:
    """The address of the kernel that leads from one turn to the next."""
    return _kernel("advance_turn")


def enter_stage() -> int:
    """The address of the kernel that is called before a stage."""
    return _kernel("enter_stage")


@functools.cache
def _kernel(name: str) -> int:
    from mace_core.native.kernel import load_kernels
    from mace_core.native.numba_kernel import numba_source

    source = numba_source("mace_core.native.turn_kernels", name)
    return load_kernels([source])[source.symbol]
