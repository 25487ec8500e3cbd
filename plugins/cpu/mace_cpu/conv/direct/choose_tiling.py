"""How a direct convolution is divided: how its input is read, and what one unit of work computes."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.symbolic import hint, is_same, maximum, minimum
from mace_cpu.conv.geometry import Geometry
from mace_cpu.shared.tiles.arguments import STEPS_PER_FETCH
from mace_cpu.shared.tiles.choose import ChannelSplit, segment_tiles

CACHED_INPUT_BYTES = 1 << 20
"""How much input is swept once per tile of channels: it should stay in the second level cache."""

CACHED_WEIGHT_BYTES = 24 << 10
"""Weights of one tile of channels that are swept once per tile of pixels: about half the first level cache."""

FAR_INPUT_BYTES = 1 << 20
"""A larger image is fetched ahead of its use, as it comes from beyond the second level cache."""

SUM_TILES = 8
"""Tiles per unit whose sums are kept between passes."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the input of one group is read: in runs of consecutive floats.

    Attributes:
        step: channels of a block: those that lie together.
        blocks: per group.
        taps: runs per kernel row; one where the taps of a row follow each other.
        run, last_run: steps per run, and per run of the last block, which may not be full.
        image_floats: from image to image.
    """

    step: int
    blocks: int
    taps: int
    run: int
    last_run: int
    image_floats: int

    @classmethod
    def of(cls, shape: Geometry, block: int, *, plain_input: bool) -> Reading:
        """How a convolution reads an input in the PLAIN layout, or in channel blocks."""
        step = 1 if plain_input else block
        blocks = -(-shape.group_in // step)
        tail = shape.group_in % step
        merged = shape.dilations[1] == 1 and not tail
        run = step * shape.kernel[1] if merged else step
        image_floats = shape.groups * blocks * step * shape.image[0] * shape.image[1]
        return cls(step, blocks, 1 if merged else shape.kernel[1], run, tail or run, image_floats)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the results of one split of the output channels are computed.

    Attributes:
        rows: pixels of a tile.
        segment_tiles, segments: tiles of a stretch of an output row, and stretches per row.
        pass_blocks: input blocks summed up before the weights change.
        group_rows, row_groups: output rows per unit of work, and into how many such they are divided.
        positions: images times row groups times segments.
        band: positions that take one tile of channels after another together, while their input stays in a cache.
        tile_fetch, steps_fetch: floats of the next pass's weights to fetch during each tile, and every few steps.
    """

    rows: int
    segment_tiles: int
    segments: int
    pass_blocks: int
    group_rows: int
    row_groups: int
    positions: int
    band: int
    tile_fetch: int
    steps_fetch: int


def choose_tiling(
    shape: Geometry, reading: Reading, split: ChannelSplit, rows: int, columns: int, weight_bytes: int, threads: int
) -> Tiling:
    """The tiling of one split of a convolution of two axes.

    Args:
        rows, columns: pixels and channels of a tile.
        weight_bytes: of all weights of the split.
    """
    kernel_h, (out_h, out_w) = shape.kernel[0], shape.output
    tiles = -(-out_w // rows)
    in_segment = segment_tiles(tiles, shape.batch * out_h * split.tiles * shape.groups, threads)
    segments = -(-tiles // in_segment)
    block_weights = kernel_h * reading.taps * reading.run * columns
    pass_blocks = _pass_blocks(reading.blocks, 4 * block_weights)
    group_rows = 1
    if pass_blocks < reading.blocks:
        group_rows = max(min(SUM_TILES // in_segment, hint(out_h)), 1)
    row_groups = -(-out_h // group_rows)
    positions = shape.batch * row_groups * segments
    band = positions
    if weight_bytes < CACHED_INPUT_BYTES:
        position_bytes = 4 * hint(reading.image_floats) / max(hint(row_groups * segments), 1)
        band = maximum(minimum(int(CACHED_INPUT_BYTES / max(position_bytes, 1)), positions), 1)
    tile_fetch = -(-pass_blocks * block_weights // (group_rows * in_segment))
    if is_same(positions * group_rows * in_segment, 1):  # tile after tile reads on, which the processor sees by itself
        tile_fetch = 0
    fetches = max(pass_blocks * kernel_h * reading.taps * -(-reading.run // STEPS_PER_FETCH), 1)
    return Tiling(
        rows,
        in_segment,
        segments,
        pass_blocks,
        group_rows,
        row_groups,
        positions,
        band,
        tile_fetch,
        -(-tile_fetch // fetches),
    )


def _pass_blocks(in_blocks: int, block_weight_bytes: int) -> int:
    """Input blocks per pass: as many as keep their weights in the first level cache, evenly spread over the passes."""
    most = max(CACHED_WEIGHT_BYTES // max(block_weight_bytes, 1), 1)
    if in_blocks <= most:
        return max(in_blocks, 1)
    passes = -(-in_blocks // most)
    return -(-in_blocks // passes)


def input_ahead(shape: Geometry, reading: Reading, rows: int) -> int:
    """From a tile's window to the input that comes into use next, in floats: the next tile's, or the row that the next
    row begins; 0 if an image is small enough to be near by."""
    if hint(4 * reading.image_floats) <= FAR_INPUT_BYTES:
        return 0
    if hint(shape.output[0]) == 1:
        return rows * shape.strides[1] * reading.step
    below = (shape.kernel[0] - 1) * shape.dilations[0] + shape.strides[0]
    return below * shape.image[1] * reading.step
