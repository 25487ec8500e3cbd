"""Dot products of bytes: what lowerings have to know of them, apart from the generator, which needs llvmlite.

A *quad* is four bytes of the left operand that meet four bytes of the right one in one lane of int32.  The right
operand (weights) is always signed: unsigned numbers are stored less 128, and so are their zero points.  The left one
may be either; some units change it by `left_offset` first, which whoever adds the bias makes up for.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.native.target import Target

QUAD = 4
"""Bytes that meet in one lane."""

EIGHT = 8
"""Bytes of a row that meet a column where matrices of 2 x 8 bytes are multiplied."""

QUADS_PER_TILE = 16
"""Quads in a row of a tile register."""

CACHE_LINE_BYTES = 64

SIGN = 128
"""From an unsigned byte to the signed one with the same bits but for the highest."""


class QuadUnit(enum.Enum):
    """What multiplies quads and sums them up in int32.  All are exact: none saturates on the way."""

    VNNI = "vnni"  # vpdpbusd: unsigned times signed
    WORDS = "words"  # pmaddwd of bytes widened to 16 bits, even and odd ones apart
    DOT = "dot"  # sdot of aarch64: signed times signed
    LONG = "long"  # aarch64 without it: smull to 16 bits, pairs of which sadalp adds: signed times signed
    MMLA = "mmla"  # smmla and usmmla of aarch64: two rows by two columns, eight bytes deep
    LANES = "lanes"  # a multiplication of int32 for each byte
    AMX = "amx"  # tdpbusd and tdpbssd on tile registers; only whole rows of 16 quads
    AMX_EMULATED = "amxe"  # the same in memory, slowly: for tests on processors without

    @property
    def together(self) -> int:
        """Of how many quads a run has to be a multiple."""
        return QUADS_PER_TILE if self.has_tiles else EIGHT // QUAD if self is QuadUnit.MMLA else 1

    @property
    def has_tiles(self) -> bool:
        """Whether it multiplies tiles of 16 x 16 quads, where `of` gives what multiplies vectors."""
        return self in (QuadUnit.AMX, QuadUnit.AMX_EMULATED)

    @staticmethod
    def of(target: Target) -> QuadUnit:
        """The fastest that a target has."""
        if target.architecture == "x86_64":
            wide = target.vector_bits == 512
            has_unit = target.has("avx512vnni") if wide else target.vector_bits == 256 and target.has("avxvnni")
            return QuadUnit.VNNI if has_unit else QuadUnit.WORDS
        if target.architecture == "aarch64":
            return QuadUnit.DOT if target.has("dotprod") else QuadUnit.LONG
        return QuadUnit.LANES

    def left_offset(self, is_signed: bool) -> int:
        """What is added to each byte of the left operand before it is multiplied."""
        if self is QuadUnit.VNNI:
            return SIGN if is_signed else 0
        if self in (QuadUnit.DOT, QuadUnit.LONG):
            return 0 if is_signed else -SIGN
        return 0


def signed_weights(weights: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Bytes as the right operand has them: unsigned ones less 128."""
    if weights.dtype == np.uint8:
        return (weights ^ np.uint8(SIGN)).view(np.int8)
    return weights.astype(np.int8, copy=False)


def pack_quads(right: npt.NDArray[np.int8], columns: int, together: int = 1, size: int = QUAD) -> npt.NDArray[np.int8]:
    """(..., steps, N) as [...][N / columns][steps / 4][columns][4], zeros where there is nothing, 64-byte aligned.

    Args:
        together: divides the number of quads.
        size: bytes of a column that lie together, 4, or `EIGHT` for `QuadUnit.MMLA`.
    """
    *outer, steps, width = right.shape
    tiles, groups = -(-width // columns), -(-steps // (size * together)) * together
    full = right
    if (steps, width) != (groups * size, tiles * columns):
        full = np.zeros((*outer, groups * size, tiles * columns), np.int8)
        full[..., :steps, :width] = right
    split = full.reshape(*outer, groups, size, tiles, columns)
    rank = len(outer)
    order = (*range(rank), rank + 2, rank, rank + 3, rank + 1)
    packed = aligned_bytes((*outer, tiles, groups, columns, size))
    packed[...] = split.transpose(order)
    return packed


def aligned_bytes(shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """An uninitialized int8 array that begins at a multiple of 64 bytes."""
    nbytes = int(np.prod(shape, dtype=np.int64))
    owner = np.empty(nbytes + CACHE_LINE_BYTES, np.int8)
    start = -owner.ctypes.data % CACHE_LINE_BYTES
    return owner[start : start + nbytes].reshape(shape)
