"""Buffers in one of several memories and layouts, and addresses in them."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.tensor import DType
from mace_cpu.plan.assembly import ALIGNMENT_BYTES


def aligned_empty(shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """An uninitialized float32 array that begins at a multiple of 64 bytes."""
    nbytes = 4 * math.prod(shape)
    owner = np.empty(nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -owner.ctypes.data % ALIGNMENT_BYTES
    return owner[start : start + nbytes].view(np.float32).reshape(shape)


def element_bytes(dtype: DType) -> int:
    """Bytes that one element takes in plain layout inside a subgraph: elements of less than a byte have one each.

    They are held as ``ml_dtypes`` does: integers extended to a byte, floats as codes in its lowest bits.
    """
    return max(dtype.bits // 8, 1)


class Layout(enum.Enum):
    """How a value's elements are ordered in its buffer."""

    PLAIN = "plain"  # dense row-major, whole bytes per element (`element_bytes`)
    PACKED = "packed"  # elements of less than a byte as ONNX stores them: inputs and outputs of a subgraph
    BLOCKED = "blocked"  # (N, C, *spatial) as [N][ceil(C / block)][*spatial][block]; spare lanes are undefined
    PAIRS = "pairs"  # bfloat16, [N][ceil(C / 2 block)][*spatial][2 block]; spare lanes are zero
    CHANNELS_LAST = "channels last"  # numbers of 8 or 16 bits, (N, C, *spatial) as [N][*spatial][C], dense
    PAIR_ROWS = "pair rows"  # bfloat16, (..., K) as [...][ceil(K / 2 block)][2 block]; spare lanes are zero


class Place(enum.Enum):
    """Which of the memories given at run time a buffer lives in."""

    ARENA = "arena"
    CONSTANT = "constant"
    INPUT = "input"
    OUTPUT = "output"
    STATUS = "status"  # words that kernels set when an input's content is wrong
    DIMS = "dims"  # words to which kernels write dimensions that only the run tells


@dataclass(eq=False)
class Buf:
    """A buffer.  ``index`` numbers inputs and outputs; ``offset`` is set when the arena is planned.

    ``in_place`` says of a constant that it is used where it lies instead of being copied.  A part of another buffer has
    that as ``whole`` and begins ``start`` bytes into it: the whole is what is placed in memory, and what lives as long
    as any of its parts.
    """

    place: Place
    nbytes: int
    index: int = 0
    offset: int = 0
    in_place: bool = False
    whole: Buf | None = None
    start: int = 0

    @staticmethod
    def scratch(nbytes: int) -> Buf:
        """An arena buffer, alive from the first to the last step that names it; its content starts undefined."""
        return Buf(Place.ARENA, max(nbytes, 1))

    def part(self, start: int, nbytes: int) -> Buf:
        """The ``nbytes`` bytes from ``start`` on, as a buffer."""
        return Buf(self.place, nbytes, self.index, whole=self, start=start)


@dataclass(frozen=True, slots=True)
class At:
    """An address ``offset`` bytes into a buffer, as a kernel argument."""

    buf: Buf
    offset: int = 0

    def in_whole(self) -> At:
        """The same address, in terms of the buffer that is placed in memory."""
        buf, offset = self.buf, self.offset
        while buf.whole is not None:
            buf, offset = buf.whole, offset + buf.start
        return At(buf, offset)


@dataclass(frozen=True, slots=True)
class Unsized:
    """An output whose shape only the run tells.

    Attributes:
        index: of the output.
        dtype: of its elements.
        data: an arena buffer of the largest size it may have; the elements come first, row-major.
        first_word: where among the dimension words its dimensions are.
        rank: how many they are.
    """

    index: int
    dtype: DType
    data: Buf
    first_word: int
    rank: int


@dataclass(frozen=True, slots=True)
class Journal:
    """What rows held before they were written over, for as long as the run may still fail.

    Attributes:
        data: for each row where it is in its memory, as an int64 of bytes (-1: nowhere), then what all of them held.
        noted: where a kernel says that all is there: ``JOURNAL_WORDS`` words.
        first_word: where among the dimension words that is.
    """

    data: Buf
    noted: At
    first_word: int
