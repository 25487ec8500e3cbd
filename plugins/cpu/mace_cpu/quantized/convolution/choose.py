"""How a dense convolution of bytes is divided: register tiles, bands of pixels, parts of the channels."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from mace_core.native.target import Target
from mace_core.symbolic import hint
from mace_cpu.shared.quads import QUADS_PER_TILE, QuadUnit
from mace_cpu.shared.tiles.choose import has_many_registers

MANY_REGISTERS = (
    *((rows, 4) for rows in (6, 5, 4, 2, 1)),
    *((rows, 3) for rows in (9, 8, 7, 4, 1)),
    *((rows, 2) for rows in (14, 10, 7, 4, 2, 1)),
    *((rows, 1) for rows in (14, 7, 4, 1)),
)
"""Tiles (pixels, vectors of channels) that stay in 32 registers: few, so that layers share kernels."""

LANE_TILES = (
    *((rows, 4) for rows in (5, 4, 2, 1)),
    *((rows, 3) for rows in (7, 6, 4, 1)),
    *((rows, 2) for rows in (9, 8, 7, 4, 2, 1)),
    *((rows, 1) for rows in (14, 7, 4, 1)),
)
"""Tiles for 32 registers where each row has one for quads that are loaded several at once."""

FEW_REGISTERS = ((4, 2), (2, 2), (1, 2), (8, 1), (4, 1), (1, 1))
"""Tiles for 16 registers."""

LONG_TILES = (*((rows, 2) for rows in (4, 2, 1)), *((rows, 1) for rows in (10, 8, 4, 2, 1)))
"""Tiles for 32 registers where a vector of sums takes two."""

PAIRED_TILES = (
    *((rows, 4) for rows in (4, 2)),
    (6, 3),
    *((rows, 2) for rows in (8, 6, 4, 2)),
    *((rows, 1) for rows in (8, 4, 2)),
)
"""Tiles whose rows are multiplied two at a time."""

MATRIX_TILES = ((32, 2), (16, 2), (32, 1), (16, 1))
"""Tiles in the registers of AMX: its sums take one of them for 16 pixels x 16 channels."""

LATENCY = 5
"""Steps that a processor has to have under way."""

COST_PER_QUADS = {
    QuadUnit.VNNI: 0.5,
    QuadUnit.DOT: 0.5,
    QuadUnit.MMLA: 0.27,
    QuadUnit.WORDS: 2.2,
    QuadUnit.LONG: 2.0,
    QuadUnit.LANES: 6.0,
}
"""Cycles for a vector of quads."""

_LOADS_PER_ROW = {QuadUnit.DOT: 0.25, QuadUnit.MMLA: 0.5}
"""Loads of the left operand per row and quad where several quads are loaded at once, and brought together."""

MATRIX_CYCLES, MATRIX_LATENCY = 16.0, 52.0
"""For a multiplication of two tile registers, and until its sums can be added to.

Source: Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter on AMX.
"""

FINISHING = 4.0
"""Cycles per vector of sums for its requantization."""

LARGE_WEIGHTS = 1 << 19
"""Weights of a layer that should not be read once per band."""

BAND_BYTES, LARGEST_BAND_BYTES = 1 << 17, 1 << 19
"""Input of a band, which is swept once per tile of channels: it should stay in the second level cache."""

LEAST_SPANS = 2
"""Rows of a band, in rows that a window reaches over: those at its ends are copied for two bands."""

UNITS_PER_THREAD = 4
SMALLEST_UNIT_MACS = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides how a convolution is divided.

    Attributes:
        images: times groups.
        rows, width: output pixels.
        channels: of the result, per group.
        steps: quads per sum.
        input_bytes: that one image's group is made from.
        span: rows of the image that a window reaches over.
    """

    images: int
    rows: int
    width: int
    channels: int
    steps: int
    input_bytes: int
    span: int


@dataclass(frozen=True, slots=True)
class Division:
    """How the work is divided.

    Attributes:
        band_rows, bands: output rows per band, and bands per image.
        part_tiles, parts: channel tiles per unit, and into how many parts they are divided.
    """

    band_rows: int
    bands: int
    part_tiles: int
    parts: int


@functools.cache
def choose_tile(
    target: Target, unit: QuadUnit, pixels: int, channels: int, steps: int, extra: int = 0, planes: int = 1
) -> tuple[int, int]:
    """(pixels, vectors) of the tile that computes ``pixels`` x ``channels`` sums of ``steps`` quads fastest.

    Args:
        extra: vectors per row that are there besides.
        planes: rows of the tile for each pixel.
    """
    return min(
        (
            (rows // planes, vectors - extra)
            for rows, vectors in _allowed(target, unit)
            if vectors > extra and rows % planes == 0
        ),
        key=lambda tile: tile_cost(target, unit, tile, pixels, channels, steps, extra, planes),
    )


def choose_rows_of(target: Target, unit: QuadUnit, vectors: int, pixels: int) -> int | None:
    """The height of the tile of so many vectors that takes the fewest cycles per step; None: there is none."""
    heights = [rows for rows, wide in _allowed(target, unit) if wide == vectors]
    if not heights:
        return None
    return min(heights, key=lambda rows: tile_cost(target, unit, (rows, vectors), pixels, 1, 64))


def tile_cost(
    target: Target,
    unit: QuadUnit,
    tile: tuple[int, int],
    pixels: int,
    channels: int,
    steps: int,
    extra: int = 0,
    planes: int = 1,
    *,
    in_place: bool = False,
) -> float:
    """Cycles for all sums by one kind of tile; arguments as for `choose_tile`.

    ``in_place``: rows for tile registers are read where they lie, not brought together first.
    """
    rows, vectors = tile[0] * planes, tile[1]
    lanes = target.vector_bits // 32
    if unit.has_tiles:
        loads = (rows / 2 if in_place else rows) + QUADS_PER_TILE * vectors / 2
        step = max(rows * vectors * MATRIX_CYCLES / QUADS_PER_TILE, loads, MATRIX_LATENCY) / QUADS_PER_TILE
        finishing = FINISHING + 1.0  # sums come through memory
    else:
        together = vectors + extra
        loads = _LOADS_PER_ROW.get(unit, 1.0) * rows + together
        latency = LATENCY if unit is not QuadUnit.MMLA else LATENCY / 2  # of two quads
        step = max(rows * together * COST_PER_QUADS[unit], loads, latency) + 0.5
        finishing = FINISHING
    one = steps * step + rows * vectors * finishing + 4 * rows
    return -(-pixels // tile[0]) * -(-channels // (vectors * lanes)) * one


def _allowed(target: Target, unit: QuadUnit) -> tuple[tuple[int, int], ...]:
    if unit.has_tiles:
        return MATRIX_TILES
    if unit is QuadUnit.DOT:
        return LANE_TILES
    if unit is QuadUnit.MMLA:
        return PAIRED_TILES
    if unit is QuadUnit.LONG:
        return LONG_TILES
    return MANY_REGISTERS if has_many_registers(target) else FEW_REGISTERS


def divide(sizes: Sizes, tile_channels: int, threads: int) -> Division:
    """The bands and parts of a convolution whose tiles have so many channels."""
    tiles = -(-sizes.channels // tile_channels)
    images, rows, width = hint(sizes.images), max(hint(sizes.rows), 1), hint(sizes.width)
    weights = 4 * sizes.steps * tiles * tile_channels
    macs = 4 * images * rows * width * sizes.channels * sizes.steps
    largest = LARGEST_BAND_BYTES if weights > LARGE_WEIGHTS else BAND_BYTES
    row_bytes = max(hint(sizes.input_bytes) // rows, 1)
    least_rows = max(min(LEAST_SPANS * sizes.span, LARGEST_BAND_BYTES // row_bytes), 1)
    bands = min(-(-hint(sizes.input_bytes) // largest), -(-rows // least_rows))
    wanted = 1
    if threads > 1:
        wanted = max(min(UNITS_PER_THREAD * threads, macs // SMALLEST_UNIT_MACS), 1)
    parts = 1
    if weights > hint(sizes.input_bytes):
        parts = min(tiles, -(-wanted // (images * bands)))
        bands = max(bands, min(rows, -(-wanted // (images * parts))))
    else:
        bands = max(bands, min(rows, -(-wanted // images)))
        parts = min(tiles, -(-wanted // (images * bands)))
    part_tiles = -(-tiles // max(parts, 1))
    band_rows = max(-(-rows // max(bands, 1)), 1)
    return Division(band_rows, -(-sizes.rows // band_rows), part_tiles, -(-tiles // part_tiles))
