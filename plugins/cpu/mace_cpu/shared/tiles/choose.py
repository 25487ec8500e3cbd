"""Which register tiles a convolution or a product is made of."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from mace_core.native.target import Target
from mace_core.symbolic import ceiling, hint, is_symbolic

LEAST_PAIRED = 16
"""With fewer channels or steps, in or out, whole registers of pairs of bfloat16 would be mostly empty."""


@dataclass(frozen=True, slots=True)
class ChannelSplit:
    """A stretch of a group's output channels computed with one tile width.

    Attributes:
        first: its first channel block.
        tiles: how many tiles side by side.
        blocks: channel blocks per tile.
    """

    first: int
    tiles: int
    blocks: int


ROW_CHOICES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14)
"""Tile heights to choose from: few, so that layers share kernels."""


def has_many_registers(target: Target) -> bool:
    """Whether there are 32 vector registers, not 16."""
    return target.vector_bits >= 512 or target.architecture == "aarch64"


def takes_lanes(target: Target) -> bool:
    """Whether the target multiplies by one lane of a vector, so that factors are loaded several at once."""
    return target.architecture == "aarch64"


def most_rows(target: Target, block: int, blocks: int) -> int:
    """The tallest tile whose accumulators stay in registers."""
    vectors = blocks * block * 32 // target.vector_bits
    if takes_lanes(target):
        # a row needs a vector of factors beside its sums; three are left for columns, which LLVM loads two at a time
        return min(max((32 - 3) // (vectors + 1), 1), ROW_CHOICES[-1])
    registers = 32 if has_many_registers(target) else 16
    # the row of columns, one broadcast factor, and without fused operations a product
    spare = vectors + (1 if target.vector_bits >= 256 else 2)
    return min(max((registers - spare) // vectors, 1), ROW_CHOICES[-1])


def most_half_rows(blocks: int, *, is_long: bool) -> int:
    """The tallest tile of float16 with ``blocks`` vectors of eight columns that stays in the registers of aarch64.

    Args:
        is_long: sums are float32, in registers.  Else those are in memory, and such of float16 in registers.
    """
    if is_long:
        return (32 - blocks - 1) // (2 * blocks + 1)
    return {1: 10, 2: 8}[blocks]


def widest_tile(target: Target, block: int) -> int:
    """Channel blocks per tile where there are enough channels."""
    return 1 if target.vector_bits < 256 and target.architecture != "aarch64" else 2


SINGLE_ROW_BLOCKS = 4
"""Sums that have to be on their way at a time for a tile of one row to read its weights as fast as they come."""


def single_row_width(out_blocks: int, threads: int) -> int:
    """Channel blocks per tile where there is one row, whose every weight is read once: wide ones, while all threads
    have some."""

    def cost(width: int) -> tuple[int, int, int]:
        rounds = -(-out_blocks // width) / threads
        return math.ceil(rounds) * SINGLE_ROW_BLOCKS, out_blocks % width, -width

    return min(range(1, SINGLE_ROW_BLOCKS + 1), key=cost)


def split_channels(out_blocks: int, widest: int) -> list[ChannelSplit]:
    """Cover ``out_blocks`` blocks with tiles of ``widest`` blocks and, for what is left, narrower ones."""
    if is_symbolic(out_blocks):  # tiles of one width, the last one partly empty, cover any number
        blocks = widest if out_blocks >= widest else hint(out_blocks)
        return [ChannelSplit(0, ceiling(out_blocks, blocks), blocks)]
    whole, rest = divmod(out_blocks, widest)
    splits = [ChannelSplit(0, whole, widest)] if whole else []
    if rest:
        splits.append(ChannelSplit(whole * widest, 1, rest))
    return splits


LONGEST_SEGMENT_TILES = 8
"""Tiles per unit of work along a row."""

UNIT_OVERHEAD_TILES = 0.25


def segment_tiles(tiles: int, others: int, threads: int) -> int:
    """Tiles per segment of a row of ``tiles``, so that ``threads`` get equal shares of all units.

    Args:
        others: units for each segment (rows, tiles of channels, images).
    """
    tiles, others = hint(tiles), hint(others)  # any length is right
    longest = min(tiles, LONGEST_SEGMENT_TILES)
    if threads <= 1:
        return longest

    def time(length: int) -> float:
        segments = -(-tiles // length)
        return -(-segments * others // threads) * (tiles / segments + UNIT_OVERHEAD_TILES)

    return min(range(1, longest + 1), key=time)  # of those that make as many segments, the most even


WORTH_A_KERNEL = 1.06
"""A tile less tall than need be must be so much faster: every other height is one more kernel to build."""


@functools.cache
def choose_rows(width: int, most: int, vectors: int) -> int:
    """The tile height that covers ``width`` pixels fastest.

    A step takes as long as its multiplications, its loads, or the latency of one multiplication, whichever is longest;
    two of each start per cycle.
    """

    def cost(rows: int) -> float:
        step = max(rows * vectors, rows + vectors, 8)
        return -(-width // rows) * (step + 0.5)

    allowed = [rows for rows in ROW_CHOICES if rows <= min(width, most)]
    fastest = min(cost(rows) for rows in allowed)
    return max(rows for rows in allowed if cost(rows) <= fastest * WORTH_A_KERNEL)


def fitting_rows(width: int, most: int, vectors: int) -> int:
    """`choose_rows`; guards see to it that a width that is not decided has so many pixels.

    Such a tile serves rows up to twice as wide as it may be high, or any where all tiles fit: a low one, chosen for a
    narrow row, is slow on wide ones.
    """
    if is_symbolic(width):
        while width < most:
            most //= 2
    return choose_rows(hint(width), most, vectors)


MATRIX_ROWS = 16
"""Rows of one tile register."""

MATRIX_VECTORS = 2
"""Tile registers side by side for the right operand."""


@functools.cache
def choose_matrix_rows(width: int) -> int:
    """The height, up to two tile registers, that covers ``width`` pixels fastest.

    A step takes one cycle per row and register of columns, or the loads of its operands: eight cycles per register.
    """

    def cost(rows: int) -> float:
        heights = [min(rows - first, MATRIX_ROWS) for first in range(0, rows, MATRIX_ROWS)]
        step = max(2 * sum(heights), MATRIX_ROWS // 2 * (len(heights) + 2))
        return -(-width // rows) * (step + 4)

    allowed = range(1, min(width, 2 * MATRIX_ROWS) + 1)
    fastest = min(cost(rows) for rows in allowed)
    return max(rows for rows in allowed if cost(rows) <= fastest * WORTH_A_KERNEL)


def fitting_matrix_rows(width: int) -> int:
    """`choose_matrix_rows` of the width at hand, as `fitting_rows`."""
    if not is_symbolic(width):
        return choose_matrix_rows(width)
    most = 2 * MATRIX_ROWS
    while width < most:
        most //= 2
    return min(choose_matrix_rows(hint(width)), most)
