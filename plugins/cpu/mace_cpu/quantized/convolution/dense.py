"""Emits dense convolutions of bytes: packing, arguments."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint, is_same
from mace_cpu.conv.geometry import Geometry, may_be_positive
from mace_cpu.quantized.convolution.arguments import Arg, Copies, Variant
from mace_cpu.quantized.convolution.choose import Division, Sizes, choose_tile, divide, tile_cost
from mace_cpu.quantized.convolution.sparse import SparseTile, choose_sparse_tile, pack_kept
from mace_cpu.quantized.convolution.weights import Weights, joined_groups, pack_dense, per_column
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Following, Requantization
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word, Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QUAD, QUADS_PER_TILE, QuadUnit
from mace_cpu.shared.tiles.arguments import STEPS_PER_FETCH
from mace_cpu.shared.tiles.kept_bytes import KeptBytes

WORK_PER_MAC = 1 / 32

Floats = npt.NDArray[np.float32]

Key = tuple[npt.NDArray[Any], tuple[object, ...]]
"""An array of the model, and in what way it is changed: what packed weights are stored under."""


@dataclass(frozen=True, slots=True)
class Requantized:
    """What becomes of the sums of a convolution, with the numbers for it.

    Attributes:
        spec: what is done.
        bias: (O,) whole numbers that are added to the sums.
        scales: (O,) factors.
        float_bias: (O,), where one is added.
        zero, low, high: zero point and bounds of the result.
        following: the argument words of the operations that follow.
    """

    spec: Requantization
    bias: npt.NDArray[np.int64]
    scales: Floats
    float_bias: Floats | None
    zero: int
    low: int
    high: int
    following: Sequence[Word] = ()

    def followed_by(self, operations: Sequence[Following], words: Sequence[Word]) -> Requantized:
        """The same with operations after it."""
        return replace(self, spec=replace(self.spec, following=tuple(operations)), following=tuple(words))


@dataclass(frozen=True, slots=True)
class Lattice:
    """Which pixels of the result a convolution computes, if not all, in pixels.

    Attributes:
        origin: the first one.
        image, row, pixel: from image to image, row to row and pixel to pixel.
    """

    origin: int
    image: int
    row: int
    pixel: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How windows are read, in bytes.

    Attributes:
        shape: the convolution, of two axes, perhaps turned or with its pixels in one row.
        copies: whether the image is copied first.
        linear: windows follow each other at one distance.
        merged: the taps of a kernel row are one run.
        copy_width: pixels of a copied row.
    """

    shape: Geometry
    copies: Copies
    linear: bool
    merged: bool
    copy_width: int

    @property
    def gathers(self) -> bool:
        """Whether a copy holds the channels of one group."""
        return self.copies is not Copies.NONE and self.shape.groups > 1

    @property
    def run(self) -> int:
        """Bytes that lie next to each other."""
        return self.shape.group_in * (self.shape.kernel[1] if self.merged else 1)

    @property
    def quads(self) -> int:
        """Quads of a run; of a copy, which may be read a little beyond its end, the last one need not be full."""
        return self.run // QUAD if self.copies is Copies.NONE else -(-self.run // QUAD)

    @property
    def tail(self) -> int:
        """Bytes of a run beyond these."""
        return self.run % QUAD if self.copies is Copies.NONE else 0

    @property
    def taps(self) -> int:
        """Runs per kernel row."""
        return 1 if self.merged else self.shape.kernel[1]

    @property
    def steps(self) -> int:
        """Quads of a window."""
        return self.shape.kernel[0] * self.taps * -(-self.run // QUAD)


def int32_bias(bias: npt.NDArray[np.int64], weights: Weights, zero: int) -> npt.NDArray[np.int32]:
    """What sums start from so that ``zero`` is taken off every byte of the input."""
    sums = weights.sums if weights.zeros is None else weights.sums - weights.depth * weights.zeros
    return int32(bias - zero * sums)


def int32(whole: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Whole numbers modulo 2**32, as sums have them."""
    return whole.astype(np.uint64).astype(np.uint32).view(np.int32)


def reading_of(geometry: Geometry, *, flips: bool, as_it_is: bool = False) -> Reading:
    """How to read the image of a convolution.

    Args:
        flips: the highest bit of what is multiplied differs from the input's.
        as_it_is: rows stay rows.
    """
    shape = geometry.with_rank(2)
    pointwise = shape.is_pointwise and not as_it_is
    if pointwise and not flips:
        pixels = math.prod(shape.image)
        shape = replace(shape, image=(pixels, 1), output=(pixels, 1))
    elif is_one_row(shape) and not as_it_is:
        shape = turned(shape)
    is_padded = any(_reaches_out(shape, axis) for axis in range(2))
    copies = Copies.FLIPPED if flips else Copies.PLAIN if is_padded else Copies.NONE
    own_pixels = copies is not Copies.NONE or shape.groups == 1
    merged = shape.kernel[1] == 1 or (shape.dilations[1] == 1 and own_pixels)
    width = (shape.output[1] - 1) * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1] + 1
    return Reading(shape, copies, pointwise and not flips, merged, width)


def is_one_row(shape: Geometry) -> bool:
    """Whether image and result have one row, which could as well be a column."""
    return is_same(shape.image[0], 1) and is_same(shape.output[0], 1) and shape.kernel[0] == 1


def turned(shape: Geometry) -> Geometry:
    """The same with rows for columns."""
    return replace(
        shape,
        image=shape.image[::-1],
        kernel=shape.kernel[::-1],
        output=shape.output[::-1],
        strides=shape.strides[::-1],
        dilations=shape.dilations[::-1],
        pads=shape.pads[::-1],
    )


def _reaches_out(shape: Geometry, axis: int) -> bool:
    """Whether some window reaches beyond the image along an axis, or does not begin with it."""
    span = (shape.kernel[axis] - 1) * shape.dilations[axis] + 1
    last = (shape.output[axis] - 1) * shape.strides[axis] - shape.pads[axis] + span
    is_shifted = not is_same(shape.pads[axis], 0)
    return is_shifted or may_be_positive(last - shape.image[axis])


def emit_dense(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int,
    lattice: Lattice | None = None,
) -> None:
    """Emit a convolution of bytes of at most two axes into a buffer in the order of CHANNELS_LAST.

    Args:
        key: what the packed weights are stored under, see `ConstantPool.packed`.
        zero: the zero point of ``x``.
        lattice: which pixels of the result it computes; None: all.
    """
    machine = program.settings.target
    lanes = machine.vector_bits // 32
    is_signed = program.facts.dtype(x).name.startswith("INT")
    geometry, packed_bytes = joined_groups(geometry, weights.bytes, lanes)
    ones = 1 if weights.zeros is not None else 0
    unit, reading = _unit_and_reading(program, geometry, is_signed=is_signed, ones=ones, as_it_is=lattice is not None)
    pixels = hint(math.prod(reading.shape.output))
    rows, vectors = choose_tile(machine, unit, pixels, reading.shape.group_out, reading.steps, ones)
    sparse = None
    if not ones:
        limit = tile_cost(machine, unit, (rows, vectors), pixels, reading.shape.group_out, reading.steps)
        unit, reading, sparse = _sparse(program, geometry, packed_bytes, unit, reading, limit, is_signed=is_signed)
    kept = None if sparse is None else sparse.kept
    if sparse is not None:
        rows, vectors = sparse.rows, sparse.vectors
    offset = unit.left_offset(is_signed)
    shape = reading.shape
    run_quads = -(-reading.run // QUAD) if kept is None else kept.count // QUAD
    steps = shape.kernel[0] * reading.taps * run_quads
    columns = vectors * lanes
    image_bytes = math.prod(shape.image) * shape.group_in
    span = (shape.kernel[0] - 1) * shape.dilations[0] + 1
    images = shape.batch * shape.groups
    sizes = Sizes(images, shape.output[0], shape.output[1], shape.group_out, steps, image_bytes, span)
    division = divide(sizes, columns, program.settings.threads)
    variant = Variant(
        rows,
        vectors,
        unit,
        is_signed != (offset != 0),
        reading.tail if kept is None else 0,
        reading.copies,
        reading.gathers,
        reading.linear,
        shape.kernel[0] * reading.taps == 1,
        run_quads < STEPS_PER_FETCH,
        shape.group_out % columns != 0,
        bool(ones),
        lattice is not None,
        2 if vectors + ones > 2 and not unit.has_tiles else 1,
        result.spec,
        *((0, 0) if kept is None else (kept.window, kept.row_bytes)),
    )
    whole_bias = int32_bias(result.bias, weights, zero + offset)
    array, way = key

    def pack() -> npt.NDArray[Any]:
        of_shape = packed_bytes.reshape(shape.out_channels, shape.group_in, *shape.kernel)
        if kept is not None:
            return pack_kept(of_shape, shape.groups, columns, kept, merged=reading.merged)
        return pack_dense(of_shape, shape.groups, columns, merged=reading.merged, ones=ones * lanes)

    tiles = -(-shape.group_out // columns)
    extent = shape.batch * shape.groups * division.bands * division.parts
    work = geometry.macs * WORK_PER_MAC * (1.0 if kept is None else kept.share)
    chunks = min(hint(extent), 1) if program.settings.threads <= 1 else program.steps.chunks(extent, work)
    put = program.constants.put
    copied = _copied_bytes(reading, division)
    scratch_bytes = copied + (0 if kept is None else rows * kept.row_bytes)
    words: Words = {
        Arg.INPUT: program.values.read(x, Layout.CHANNELS_LAST),
        Arg.WEIGHTS: program.constants.packed(
            array, (*way, shape.groups, columns, reading.merged, shape.kernel, kept is not None), pack
        ),
        Arg.BIAS: put(per_column(whole_bias, shape.groups, columns)),
        Arg.SCALES: put(per_column(result.scales, shape.groups, columns)),
        Arg.FLOAT_BIAS: 0 if result.float_bias is None else put(per_column(result.float_bias, shape.groups, columns)),
        Arg.OUTPUT: target,
        Arg.SCRATCH: Buf.scratch(scratch_bytes * chunks) if scratch_bytes else 0,
        Arg.SCRATCH_BYTES: scratch_bytes,
        Arg.WEIGHT_ZEROS: 0 if weights.zeros is None else put(per_column(int32(weights.zeros), shape.groups, columns)),
        **_division_words(shape, division, tiles, steps, columns + ones * lanes, rows),
        **_lattice_words(shape, lattice),
        **_window_words(reading, columns + ones * lanes, (zero + offset) & 255),
        **_kept_words(program, kept, columns, copied),
        "requantization": [result.zero, result.low, result.high, *result.following],
    }
    note = "" if kept is None else f"sparse, {kept.share:.0%} of the products"
    program.steps.emit(dense_kernel(variant), words, extent=extent, work=work, chunks=chunks, note=note)


def _sparse(
    program: Program,
    geometry: Geometry,
    weights: npt.NDArray[np.int8],
    unit: QuadUnit,
    reading: Reading,
    limit: float,
    *,
    is_signed: bool,
) -> tuple[QuadUnit, Reading, SparseTile | None]:
    """What multiplies only the weights that are kept, where that takes less than ``limit``; else what is given."""
    machine = program.settings.target
    vectors, as_read = QuadUnit.of(machine), reading
    if unit.has_tiles:
        as_read = reading_of(geometry, flips=vectors.left_offset(is_signed) != 0, as_it_is=not reading.linear)
    shape = as_read.shape
    found = choose_sparse_tile(
        machine,
        vectors,
        weights.reshape(shape.out_channels, shape.group_in, *shape.kernel),
        shape.groups,
        hint(math.prod(shape.output)),
        merged=as_read.merged,
        limit=limit,
    )
    return (unit, reading, None) if found is None else (vectors, as_read, found)


def _unit_and_reading(
    program: Program, geometry: Geometry, *, is_signed: bool, ones: int, as_it_is: bool
) -> tuple[QuadUnit, Reading]:
    """What multiplies, and how windows are read for it: tile registers if runs fill their rows and that is faster."""
    machine, tiles = program.settings.target, program.settings.byte_tiles
    unit = QuadUnit.of(machine)
    reading = reading_of(geometry, flips=unit.left_offset(is_signed) != 0, as_it_is=as_it_is)
    if tiles is None or ones:
        return unit, reading
    plain = reading_of(geometry, flips=tiles.left_offset(is_signed) != 0, as_it_is=as_it_is)
    if plain.run % (QUAD * QUADS_PER_TILE):
        return unit, reading
    pixels, channels = hint(math.prod(plain.shape.output)), plain.shape.group_out

    def cost(candidate: QuadUnit) -> float:
        tile = choose_tile(machine, candidate, pixels, channels, plain.steps)
        return tile_cost(machine, candidate, tile, pixels, channels, plain.steps)

    return (tiles, plain) if cost(tiles) < cost(unit) else (unit, reading)


def _copied_bytes(reading: Reading, division: Division) -> int:
    """Memory for the copied band of a chunk."""
    if reading.copies is Copies.NONE:
        return 0
    shape = reading.shape
    span = (shape.kernel[0] - 1) * shape.dilations[0] + 1
    rows = (division.band_rows - 1) * shape.strides[0] + span
    return (-(-rows * reading.copy_width * shape.group_in // 64) + 1) * 64  # the last quad may reach beyond


def _kept_words(program: Program, kept: KeptBytes | None, columns: int, copied: int) -> Words:
    if kept is None:
        return {Arg.GATHERED: 0, Arg.GATHERS: 0, Arg.INDICES: 0, Arg.PLACES: 0}
    return {
        Arg.QUADS: kept.count // QUAD,
        Arg.RUN_WEIGHTS: kept.count * columns,
        Arg.GATHERED: copied,
        Arg.GATHERS: kept.gathers,
        Arg.INDICES: program.constants.put(kept.indices),
        Arg.PLACES: program.constants.put(kept.places),
    }


def _division_words(
    shape: Geometry, division: Division, tiles: int, steps: int, columns: int, rows: int
) -> dict[Arg, int]:
    tile_weights = steps * QUAD * columns
    band_pixels = division.band_rows * shape.output[1]
    pixel_tiles = max(-(-hint(band_pixels) // rows), 1)
    share = -(-tile_weights // 4 // pixel_tiles)
    fetches = max(-(-steps // STEPS_PER_FETCH), 1)
    return {
        Arg.GROUPS: shape.groups,
        Arg.BANDS: division.bands,
        Arg.PARTS: division.parts,
        Arg.PART_TILES: division.part_tiles,
        Arg.TILES: tiles,
        Arg.TILE_WEIGHTS: tile_weights,
        Arg.TILE_FETCH: share,
        Arg.STEPS_FETCH: -(-share // fetches),
        Arg.BAND_PIXELS: band_pixels,
        Arg.PIXELS: math.prod(shape.output),
        Arg.OUT_WIDTH: shape.output[1],
        Arg.OUT_CHANNELS: shape.out_channels,
        Arg.GROUP_OUT: shape.group_out,
    }


def _lattice_words(shape: Geometry, lattice: Lattice | None) -> dict[Arg, int]:
    found = lattice or Lattice(0, math.prod(shape.output), shape.output[1], 1)
    return {
        Arg.OUT_IMAGE: found.image,
        Arg.OUT_ORIGIN: found.origin,
        Arg.OUT_ROW: found.row,
        Arg.OUT_PIXEL: found.pixel,
    }


def _window_words(reading: Reading, columns: int, padding: int) -> dict[Arg, int]:
    shape = reading.shape
    is_copied = reading.copies is not Copies.NONE
    pixel = shape.group_in if is_copied else shape.in_channels
    row = pixel * (reading.copy_width if is_copied else shape.image[1])
    return {
        Arg.IMAGE: math.prod(shape.image) * shape.in_channels,
        Arg.GROUP_IN: shape.group_in,
        Arg.PIXEL_STEP: shape.strides[1] * pixel,
        Arg.ROW_STEP: shape.strides[0] * row,
        Arg.KERNEL_ROWS: shape.kernel[0],
        Arg.KERNEL_ROW: shape.dilations[0] * row,
        Arg.TAPS: reading.taps,
        Arg.TAP_STEP: shape.dilations[1] * pixel,
        Arg.QUADS: reading.quads,
        Arg.RUN_WEIGHTS: -(-reading.run // QUAD) * QUAD * columns,
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.IN_PIXEL: shape.in_channels,
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.ROW_SPAN: (shape.kernel[0] - 1) * shape.dilations[0] + 1,
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        Arg.COPY_WIDTH: reading.copy_width,
        Arg.PADDING: padding,
    }


def dense_kernel(variant: Variant) -> KernelSource:
    """The dense kernel of a variant."""
    words = functools.partial(WordLayout.of, Arg, requantization=variant.spec.words)
    return generated("mace_cpu.quantized.convolution.generate", f"bytes_conv_{variant.tag}", variant, words=words)
