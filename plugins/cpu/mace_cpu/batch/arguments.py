"""Argument words of a stretch computed row by row, apart from its generator so that lowerings need no llvmlite."""

from __future__ import annotations

import enum


class Arg(enum.IntEnum):
    """Word by word.  The lists follow in the order of the last four, which count their words."""

    MEMORY = 0  # of all chunks: for each the words of the steps, and then what they compute
    CHUNK_BYTES = enum.auto()
    ARENA_START = enum.auto()  # bytes of the words
    TIMES = enum.auto()  # where a profiled run notes three words for each step of each row; else 0
    TIMER = enum.auto()  # the kernel that does so: `mace_core.native.chunk_times.TIMED_CHUNK`
    TABLE_WORDS = enum.auto()
    PRIVATE_WORDS = enum.auto()
    MOVED_WORDS = enum.auto()
    STEP_WORDS = enum.auto()


class Entry(enum.IntEnum):
    """Word by word what the table says of each step."""

    KERNEL = 0
    FIRST = enum.auto()  # of its words
    EXTENT = enum.auto()
    PIECE = enum.auto()  # units of one call
