"""Convolutions through the generated planar kernel: when it pays, its tiles, packing of weights, arguments."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.symbolic import hint
from mace_cpu.conv.direct.choose_tiling import FAR_INPUT_BYTES
from mace_cpu.conv.direct.lower import SCALAR_WORK_PER_MAC, Floats, simplified
from mace_cpu.conv.geometry import Geometry, may_be_positive
from mace_cpu.conv.planar.arguments import Arg, Variant
from mace_cpu.conv.transposed.lower import Phase, as_convolution, axis_phases
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import segment_tiles

CHANNEL_CHOICES = (1, 2, 3, 4, 6, 8, 9, 12, 16, 24)
VECTOR_CHOICES = (1, 2, 3, 4, 6)
"""Tiles to choose from: few, so that layers share kernels."""

MOST_COLUMN_PHASES = 4
LATENCY_SLOTS = 8
"""A step has room for so many multiplications before the first one's result is there."""

STEP_OVERHEAD_SLOTS = 1.0
TILE_OVERHEAD_SLOTS = 40.0


@dataclass(frozen=True, slots=True)
class PlanarTile:
    """``channels`` (times column phases) by ``vectors`` of pixels, and what the convolution costs with it.

    ``cost`` counts vector multiplications, or what takes as long.
    """

    channels: int
    vectors: int
    cost: float


@dataclass(frozen=True, slots=True)
class Lattice:
    """How the results of a convolution of (channel, row phase, column phase) lie in a larger image.

    Attributes:
        phases: row phases, column phases.
        first: the coordinates of the first result's first phase; not positive.
        output: size of the image.
    """

    phases: tuple[int, int]
    first: tuple[int, int]
    output: tuple[int, int]


def choose_tile(target: Target, shape: Geometry, column_phases: int = 1) -> PlanarTile:
    """The cheapest tile for a geometry of two axes; its output channels count column phases."""
    shape = shape.at_hand()
    lanes = target.vector_bits // 32
    registers = 32 if target.vector_bits >= 512 or target.architecture == "aarch64" else 16
    channels = shape.group_out // column_phases
    steps = shape.group_in * math.prod(shape.kernel)
    loads = 1 if shape.strides[1] == 1 else 2 * shape.strides[1]
    best = None
    for tile_channels, vectors in itertools.product(CHANNEL_CHOICES, VECTOR_CHOICES):
        rows = tile_channels * column_phases
        smallest = tile_channels == 1 and vectors == 1
        spare = vectors + (1 if target.vector_bits >= 256 or target.architecture == "aarch64" else 2)
        if tile_channels > channels or (rows * vectors + spare > registers and not smallest):
            continue
        step = max(rows * vectors, rows + vectors * loads, LATENCY_SLOTS) + STEP_OVERHEAD_SLOTS
        tile = steps * step + TILE_OVERHEAD_SLOTS + 2 * rows * vectors
        tiles = -(-shape.output[1] // (vectors * lanes)) * -(-channels // tile_channels)
        cost = shape.batch * shape.groups * shape.output[0] * tiles * tile
        if best is None or cost < best.cost:
            best = PlanarTile(tile_channels, vectors, cost)
    assert best is not None
    return best


def planar_cost(target: Target, geometry: Geometry) -> float:
    """What the planar kernel takes for an ordinary convolution of up to two axes, in vector multiplications."""
    return choose_tile(target, simplified(geometry.with_rank(2))).cost


def emit_planar(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, target: Buf
) -> None:
    """Emit a convolution of constant weights (O, C / groups, kernel) and up to two axes into a PLAIN buffer."""
    shape = simplified(geometry.with_rank(2))
    weights = weights.reshape(shape.groups, shape.group_out, shape.group_in, *shape.kernel)
    lattice = Lattice((1, 1), (0, 0), (shape.output[0], shape.output[1]))
    _emit(program, shape, lattice, x, weights, bias, epilogue, target, phased=False)


def planar_lattice(geometry: Geometry) -> tuple[Geometry, Lattice, tuple[list[Phase], list[Phase]]] | None:
    """A ConvTranspose as one convolution whose channels are (channel, row phase, column phase), if it is one.

    That takes phases that meet equally many taps at equal distances: no zero ever stands for a tap that is not there.
    """
    if len(geometry.image) > 2 or not geometry.is_generated:
        return None
    shape = geometry.with_rank(2)
    axes = []
    for output, kernel, stride, dilation, pad in zip(
        shape.output, shape.kernel, shape.strides, shape.dilations, shape.pads, strict=True
    ):
        phases = axis_phases(output, kernel, stride, dilation, pad)
        furthest = max(p.pad for p in phases)
        # shifted so that all phases meet the same pixels
        places = {p.first - (furthest - p.pad) * stride: p for p in phases}
        lowest = min(places)
        if len({len(p.taps) for p in phases}) > 1 or not phases[0].taps:
            return None
        if sorted(places) != list(range(lowest, lowest + stride)):
            return None
        count = -(-(output - lowest) // stride)
        axes.append((furthest, count, lowest, [places[i] for i in sorted(places)]))
    (top, rows, first_row, row_phases), (left, columns, first_column, column_phases) = axes
    if len(column_phases) > MOST_COLUMN_PHASES:
        return None
    lattice = Lattice(
        (len(row_phases), len(column_phases)), (first_row, first_column), (shape.output[0], shape.output[1])
    )
    convolution = replace(
        shape,
        out_channels=shape.out_channels * math.prod(lattice.phases),
        kernel=(len(row_phases[0].taps), len(column_phases[0].taps)),
        output=(rows, columns),
        strides=(1, 1),
        dilations=(row_phases[0].dilation, column_phases[0].dilation),
        pads=(top, left),
    )
    return convolution, lattice, (row_phases, column_phases)


def emit_planar_transpose(
    program: Program, geometry: Geometry, x: Value, weights: Floats, bias: Floats, epilogue: Epilogue, target: Buf
) -> None:
    """Emit a ConvTranspose with a `planar_lattice`, of constant weights (C, O / groups, kernel), into a PLAIN buffer.

    ``epilogue`` takes no tensors.
    """
    found = planar_lattice(geometry)
    assert found is not None
    convolution, lattice, (rows, columns) = found
    dense = as_convolution(weights, geometry.with_rank(2))
    parts = [
        [dense[:, :, list(row.taps)][:, :, :, list(column.taps)] for column in columns] for row in rows
    ]  # [row phase][column phase] of (O, C / groups, kernel)
    phased = np.stack([np.stack(part, axis=1) for part in parts], axis=1)
    phased = phased.reshape(convolution.groups, convolution.group_out, convolution.group_in, *convolution.kernel)
    count = math.prod(lattice.phases)
    repeated = Epilogue(epilogue.ops, tuple(np.repeat(c, count) for c in epilogue.channels))
    _emit(program, convolution, lattice, x, phased, np.repeat(bias, count), repeated, target, phased=True)


def _emit(
    program: Program,
    shape: Geometry,
    lattice: Lattice,
    x: Value,
    weights: Floats,
    bias: Floats,
    epilogue: Epilogue,
    target: Buf,
    *,
    phased: bool,
) -> None:
    """``weights`` (groups, O / groups, C / groups, kernel), where O counts the phases."""
    lanes = program.settings.target.vector_bits // 32
    column_phases = lattice.phases[1]
    tile = choose_tile(program.settings.target, shape, column_phases)
    channels = shape.group_out // column_phases
    pixels = tile.vectors * lanes
    rows, width = shape.output
    tiles = -(-width // pixels)
    in_segment = segment_tiles(tiles, shape.batch * shape.groups * rows, program.settings.threads)
    segments = -(-tiles // in_segment)
    by_tile = _tile_rows(channels, column_phases, tile.channels)
    extent = shape.batch * shape.groups * rows * segments
    work = shape.macs * SCALAR_WORK_PER_MAC
    chunks = program.steps.chunks(extent, work)

    def by_group(values: Floats) -> Buf:
        return program.constants.put(np.ascontiguousarray(values.reshape(shape.groups, -1)[:, by_tile], np.float32))

    biases = by_group(bias)
    packed = weights[:, by_tile].transpose(0, 1, 3, 4, 5, 2)
    words: Words = {
        Arg.INPUT: program.values.read(x),
        Arg.WEIGHTS: program.constants.put(np.ascontiguousarray(packed, np.float32)),
        Arg.BIAS: biases,
        Arg.OUTPUT: target,
        **_window_words(shape, pixels, lanes, chunks, biases),
        "channels": [by_group(channel) for channel in epilogue.channels],
        "tensors": [program.values.read(tensor) for tensor in epilogue.tensors],
        Arg.GROUPS: shape.groups,
        Arg.GROUP_CHANNELS: channels,
        Arg.CHANNEL_TILES: -(-channels // tile.channels),
        Arg.SEGMENTS: segments,
        Arg.SEGMENT_TILES: in_segment,
        **_geometry_words(shape, lattice),
        Arg.INPUT_AHEAD: _input_ahead(shape, pixels),
    }
    kernel = planar_kernel(
        tile.channels,
        tile.vectors,
        lanes,
        shape.strides[1],
        column_phases if phased else 0,
        width < pixels and not phased,
        epilogue,
    )
    program.steps.emit(kernel, words, extent=extent, work=work, chunks=chunks)


def _window_words(shape: Geometry, pixels: int, lanes: int, chunks: int, unused: Buf) -> Words:
    """What a tile of ``pixels`` sees of a row, and memory for a copy of it where it reaches beyond a border.

    ``unused`` stands for no memory.
    """
    span = pixels * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1]
    row = -(-span // lanes) * lanes
    is_narrow = shape.output[1] < pixels
    last = (0 if is_narrow else shape.output[1] - pixels) * shape.strides[1] - shape.pads[1]
    outside = may_be_positive(shape.pads[1]) or may_be_positive(last + span - shape.image[1])
    scratch_floats = -(-shape.group_in * shape.kernel[0] * row // 16) * 16 if outside else 0
    return {
        Arg.SCRATCH: Buf.scratch(4 * scratch_floats * chunks) if outside else unused,
        Arg.SCRATCH_FLOATS: scratch_floats,
        Arg.SPAN: span,
        Arg.WINDOW_ROW: row,
    }


def _geometry_words(shape: Geometry, lattice: Lattice) -> Words:
    return {
        Arg.ROWS: shape.output[0],
        Arg.WIDTH: shape.output[1],
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.GROUP_IN: shape.group_in,
        Arg.KERNEL_ROWS: shape.kernel[0],
        Arg.KERNEL_COLUMNS: shape.kernel[1],
        Arg.ROW_DILATION: shape.dilations[0],
        Arg.COLUMN_DILATION: shape.dilations[1],
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        Arg.OUT_ROWS: lattice.output[0],
        Arg.OUT_WIDTH: lattice.output[1],
        Arg.ROW_PHASES: lattice.phases[0],
        Arg.FIRST_ROW: lattice.first[0],
        Arg.FIRST_COLUMN: lattice.first[1],
    }


def _input_ahead(shape: Geometry, pixels: int) -> int:
    """How far ahead of a tile's window to fetch input, in floats; 0: not at all."""
    in_h, in_w = shape.image
    if hint(4 * shape.in_channels * in_h * in_w) <= FAR_INPUT_BYTES:
        return 0
    if hint(shape.output[0]) == 1:
        return 2 * pixels * shape.strides[1]
    below = (shape.kernel[0] - 1) * shape.dilations[0] + shape.strides[0]
    return below * in_w


def _tile_rows(channels: int, column_phases: int, per_tile: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(tile, row of the tile) -> channel and phase; the last tile is moved back so that it is complete."""
    tiles = -(-channels // per_tile)
    first = np.minimum(np.arange(tiles) * per_tile, channels - per_tile) * column_phases
    rows: np.ndarray[tuple[int, int], np.dtype[np.int64]] = first[:, None] + np.arange(per_tile * column_phases)
    return rows


def planar_kernel(
    channels: int, vectors: int, lanes: int, stride: int, phases: int, narrow: bool, epilogue: Epilogue
) -> KernelSource:
    """The planar kernel for a tile, a horizontal stride, column phases (0: none of either kind) and an epilogue."""
    tag = epilogue.tag
    symbol = f"conv_planar{lanes}_{channels}x{vectors}_s{stride}_p{phases}" + ("_narrow" if narrow else "")
    symbol += f"_{tag}" if tag else ""
    variant = Variant(channels, vectors, lanes, stride, phases, narrow)
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated("mace_cpu.conv.planar.generate", symbol, variant, epilogue.ops, words=words)
