"""Weights of convolutions of bytes that are zero for all channels of a tile: whether leaving them out pays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_core.native.target import Target
from mace_cpu.quantized.convolution.choose import choose_rows_of, tile_cost
from mace_cpu.quantized.convolution.weights import Bytes
from mace_cpu.shared.quads import QUAD, QuadUnit, aligned_bytes
from mace_cpu.shared.tiles.kept import has_many_zeros
from mace_cpu.shared.tiles.kept_bytes import GATHER_CYCLES, KeptBytes, kept_bytes, window_bytes


@dataclass(frozen=True, slots=True)
class SparseTile:
    """A tile that multiplies only what is kept.

    Attributes:
        rows, vectors: its size.
        kept: [group][channel tile][kernel row][tap].
    """

    rows: int
    vectors: int
    kept: KeptBytes


def tiled_runs(weights: Bytes, groups: int, columns: int, *, merged: bool) -> Bytes:
    """(O, C / groups, kh, kw) as [group][channel tile][kernel row][tap][byte of the run][column]."""
    out_channels, group_in, rows, taps = weights.shape
    wide = out_channels // groups
    tiles = -(-wide // columns)
    full = np.zeros((groups, tiles * columns, group_in, rows, taps), np.int8)
    full[:, :wide] = weights.reshape(groups, wide, group_in, rows, taps)
    ordered = full.reshape(groups, tiles, columns, group_in, rows, taps).transpose(0, 1, 4, 5, 3, 2)
    return ordered.reshape(groups, tiles, rows, 1, taps * group_in, columns) if merged else ordered


def choose_sparse_tile(
    target: Target, unit: QuadUnit, weights: Bytes, groups: int, pixels: int, *, merged: bool, limit: float
) -> SparseTile | None:
    """The fastest tile that leaves out what all its channels have no weights for; None where none is worth it.

    Args:
        weights: (O, C / groups, kh, kw).
        pixels: of the result.
        merged: all taps of a kernel row are one run.
        limit: cycles of the dense convolution.
    """
    out_channels, group_in, _, taps = weights.shape
    window = window_bytes(target, group_in * (taps if merged else 1))
    if not window or not has_many_zeros(weights):
        return None
    found, least = None, limit
    for vectors in range(1, 5):
        columns = vectors * target.vector_bits // 32
        height = choose_rows_of(target, unit, vectors, pixels)
        if height is None:
            continue
        used = np.any(tiled_runs(weights, groups, columns, merged=merged), axis=-1)
        kept = kept_bytes(used, window)
        if kept is None:
            continue
        _, tiles, rows, runs, _ = used.shape
        steps = rows * runs * kept.count // QUAD
        cost = tile_cost(target, unit, (height, vectors), pixels, out_channels // groups, steps)
        cost += tiles * (-(-pixels // height) * height) * rows * runs * kept.gathers * GATHER_CYCLES
        if cost < least:
            found, least = SparseTile(height, vectors, kept), cost
    return found


def pack_kept(weights: Bytes, groups: int, columns: int, kept: KeptBytes, *, merged: bool) -> Bytes:
    """What is kept of (O, C / groups, kh, kw), as [group][channel tile][kernel row][tap][quad][column][4]."""
    runs = kept.of_rows(tiled_runs(weights, groups, columns, merged=merged))
    quads = runs.reshape(*runs.shape[:-2], -1, QUAD, columns).swapaxes(-1, -2)
    packed = aligned_bytes(quads.shape)
    packed[...] = quads
    return packed
