"""The weights of convolutions of bytes: known, signed, less their zero points, grouped as the kernels want them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.quads import QUAD, SIGN, aligned_bytes, pack_quads

DEEPEST = 1 << 15
"""Products of bytes that int32 holds the sum of, with room for a bias."""

Whole = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one convolution.

    Attributes:
        bytes: (O, C / groups, kernel), signed.
        sums: (O,) of each result's bytes.
        largest: what a sum of products with the true weights can reach.
        zeros: (O,) what is to be taken off each byte; None where that is nothing.
    """

    bytes: Bytes
    sums: Whole
    largest: int
    zeros: Whole | None = None

    @property
    def depth(self) -> int:
        """Weights of one result."""
        return math.prod(self.bytes.shape[1:])


def signed_weights_of(weights: npt.NDArray[Any], zeros: npt.NDArray[Any] | None) -> Weights:
    """8-bit weights (O, ...) with their zero points, one or O, taken off where signed bytes can hold the difference."""
    whole = weights.astype(np.int16)
    shift = np.zeros(1, np.int16) if zeros is None else zeros.astype(np.int16).reshape(-1)
    less = whole - shift.reshape(-1, *(1,) * (weights.ndim - 1))
    flat = less.reshape(less.shape[0], -1)
    largest = 255 * int(np.abs(flat).sum(1, dtype=np.int64).max(initial=0))
    rest = None
    if less.size and (less.min() < -128 or less.max() > 127):
        moved = SIGN if weights.dtype == np.uint8 else 0
        rest = np.broadcast_to(shift.astype(np.int64) - moved, whole.shape[:1])
        less = whole - np.int16(moved)
    return Weights(less.astype(np.int8), less.reshape(less.shape[0], -1).sum(1, dtype=np.int64), largest, rest)


def joined_groups(geometry: Geometry, weights: Bytes, lanes: int) -> tuple[Geometry, Bytes]:
    """The same convolution with as many groups taken as one as fill a vector, their weights zero for each other."""
    times = 1
    for candidate in range(2, geometry.groups + 1):
        if candidate * geometry.group_out > lanes:
            break
        if geometry.groups % candidate == 0:
            times = candidate
    if times == 1:
        return geometry, weights
    groups = geometry.groups // times
    own = weights.reshape(groups, times, geometry.group_out, geometry.group_in, *geometry.kernel)
    whole = np.zeros((groups, times, geometry.group_out, times, geometry.group_in, *geometry.kernel), np.int8)
    for i in range(times):
        whole[:, i, :, i] = own[:, i]
    joined = replace(geometry, groups=groups)
    return joined, whole.reshape(geometry.out_channels, times * geometry.group_in, *geometry.kernel)


def pack_dense(weights: Bytes, groups: int, columns: int, *, merged: bool, ones: int = 0, size: int = QUAD) -> Bytes:
    """(O, C / groups, kh, kw) as [group][channel tile][kernel row][tap][quad][column][4].

    Args:
        columns: of a tile, without the ``ones``.
        merged: all taps of a kernel row are one run.
        ones: so many columns that sum the input up follow those of each tile.
        size: as for `pack_quads`.
    """
    out_channels, group_in, rows, taps = weights.shape
    grouped = weights.reshape(groups, out_channels // groups, group_in, rows, taps).transpose(0, 3, 4, 2, 1)
    if merged:
        grouped = grouped.reshape(groups, rows, 1, taps * group_in, out_channels // groups)
    if ones:
        *outer, width = grouped.shape
        tiles = -(-width // columns)
        full = np.ones((*outer, tiles, columns + ones), np.int8)
        full[..., :columns] = 0
        for tile in range(tiles):
            part = grouped[..., tile * columns : (tile + 1) * columns]
            full[..., tile, : part.shape[-1]] = part
        grouped, columns = full.reshape(*outer, -1), columns + ones
    packed = pack_quads(np.ascontiguousarray(grouped), columns, size=size)  # [group][row][tap][tile][quad][column][4]
    ordered = packed.transpose(0, 3, 1, 2, 4, 5, 6)
    target = aligned_bytes(ordered.shape)
    target[...] = ordered
    return target


def per_column(values: npt.NDArray[Any], groups: int, columns: int) -> npt.NDArray[Any]:
    """(O,) as [group][channel tile][column], zeros for channels that do not exist."""
    grouped = values.reshape(groups, -1)
    tiles = -(-grouped.shape[1] // columns)
    full = np.zeros((groups, tiles * columns), values.dtype)
    full[:, : grouped.shape[1]] = grouped
    return full
