"""Emits dense convolutions of bytes: packing, arguments."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint
from mace_cpu.conv.geometry import Geometry
from mace_cpu.quantized.convolution.arguments import Arg, Copies, Variant
from mace_cpu.quantized.convolution.choose import Division, Sizes, choose_tile, divide, tile_cost
from mace_cpu.quantized.convolution.given import RADIX, Given
from mace_cpu.quantized.convolution.opened import Opened, emit_opened
from mace_cpu.quantized.convolution.reading import Reading, reading_of
from mace_cpu.quantized.convolution.sparse import SparseTile, choose_sparse_tile, pack_kept
from mace_cpu.quantized.convolution.weights import Weights, joined_groups, pack_dense, per_column
from mace_cpu.quantized.float_ops import FloatOperands
from mace_cpu.quantized.integer_form import WORDS
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Following, Requantization
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word, Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import EIGHT, QUAD, QuadUnit
from mace_cpu.shared.tiles.arguments import STEPS_PER_FETCH
from mace_cpu.shared.tiles.kept_bytes import KeptBytes

WORK_PER_MAC = 1 / 32

EXACT_IN_FLOAT = 1 << 24
"""float32 holds every whole number below."""

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
        floats: the operands of operations in float32, where there are such.
        step: where the factor lies that the run brings, if ``spec`` has one.
    """

    spec: Requantization
    bias: npt.NDArray[np.int64]
    scales: Floats
    float_bias: Floats | None
    zero: int
    low: int
    high: int
    following: Sequence[Word] = ()
    floats: FloatOperands | None = None
    step: Buf | None = None

    def words(self, place: Callable[[Floats], Word]) -> list[Word]:
        """The words of the requantization; ``place`` makes one of an array with a number per channel."""
        floats = [] if self.floats is None else self.floats.words(place)
        step = [] if self.step is None else [self.step]
        return [self.zero, self.low, self.high, *step, *floats, *self.following]

    def spec_of(self, weights: Weights, *, is_wide: bool) -> Requantization:
        """What is done to the sums as they come: of wide numbers in two parts."""
        part = weights.largest + int(np.abs(self.bias).max(initial=0)) // RADIX + RADIX
        return replace(self.spec, wide=is_wide, carries=is_wide and part >= EXACT_IN_FLOAT)

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


def int32_bias(bias: npt.NDArray[np.int64], weights: Weights, zero: int) -> npt.NDArray[np.int32]:
    """What sums start from so that ``zero`` is taken off every byte of the input."""
    sums = weights.sums if weights.zeros is None else weights.sums - weights.depth * weights.zeros
    return int32(bias - zero * sums)


def wide_biases(
    bias: npt.NDArray[np.int64], weights: Weights, zeros: tuple[int, int]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """As `int32_bias`, for the sums of the high and those of the low bytes of wide numbers.

    ``zeros``: what is taken off the high ones, and the low ones.
    """
    high = (bias + RADIX // 2) // RADIX
    return int32_bias(high, weights, zeros[0]), int32_bias(bias - RADIX * high, weights, zeros[1])


def int32(whole: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Whole numbers modulo 2**32, as sums have them."""
    return whole.astype(np.uint64).astype(np.uint32).view(np.int32)


def emit_dense(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Weights,
    key: Key,
    result: Requantized,
    target: Buf,
    zero: int | Opened,
    lattice: Lattice | None = None,
    layout: Layout = Layout.CHANNELS_LAST,
) -> None:
    """Emit a convolution of bytes, or of wide numbers, of at most two axes into a buffer in the order of CHANNELS_LAST.

    Args:
        key: what the packed weights are stored under, see `ConstantPool.packed`.
        zero: the zero point of ``x``; `Opened` where the run brings it.
        lattice: which pixels of the result it computes; None: all.
        layout: in which ``x`` is read; PLAIN where that is the same order.
    """
    machine = program.settings.target
    lanes = machine.vector_bits // 32
    dtype = program.facts.dtype(x)
    given = Given(dtype.name.startswith("INT"), dtype in WORDS, 1 if weights.zeros is not None else 0)
    geometry, packed_bytes = joined_groups(geometry, weights.bytes, lanes)
    ones, planes = given.ones, given.planes
    unit, reading = _unit_and_reading(program, geometry, given, as_it_is=lattice is not None)
    pixels = hint(math.prod(reading.shape.output))
    rows, vectors = choose_tile(machine, unit, pixels, reading.shape.group_out, reading.steps, ones, planes)
    sparse = None
    if not ones and not given.is_wide:
        limit = tile_cost(machine, unit, (rows, vectors), pixels, reading.shape.group_out, reading.steps)
        unit, reading, sparse = _sparse(program, geometry, packed_bytes, unit, reading, limit, given)
    kept = None if sparse is None else sparse.kept
    if sparse is not None:
        rows, vectors = sparse.rows, sparse.vectors
    offset = unit.left_offset(given.multiplies_signed)
    shape = reading.shape
    multiplied = reading if sparse is None else reading.keeping(sparse.kept.count)
    steps = multiplied.steps
    columns = vectors * lanes
    image_bytes = math.prod(shape.image) * shape.group_in * planes
    span = (shape.kernel[0] - 1) * shape.dilations[0] + 1
    images = shape.batch * shape.groups
    sizes = Sizes(images, shape.output[0], shape.output[1], shape.group_out, steps * planes, image_bytes, span)
    division = divide(sizes, columns, program.settings.threads)
    variant = Variant(
        rows,
        vectors,
        unit,
        given.multiplies_signed != (offset != 0),
        multiplied.tail,
        reading.copies,
        given.flips(offset),
        reading.gathers,
        reading.linear,
        shape.kernel[0] * multiplied.taps == 1,
        multiplied.quads < STEPS_PER_FETCH,
        shape.group_out % columns != 0,
        bool(ones),
        lattice is not None,
        2 if vectors + ones > 2 and not unit.has_tiles else 1,
        result.spec_of(weights, is_wide=given.is_wide),
        *((0, 0, 0) if kept is None else (kept.window, kept.stored, kept.row_bytes)),
        isinstance(zero, Opened),
    )
    array, way = key
    size = EIGHT if unit is QuadUnit.MMLA else QUAD

    def pack() -> npt.NDArray[Any]:
        of_shape = packed_bytes.reshape(shape.out_channels, shape.group_in, *shape.kernel)
        if kept is not None:
            return pack_kept(of_shape, shape.groups, columns, kept, merged=reading.merged)
        return pack_dense(of_shape, shape.groups, columns, merged=reading.merged, ones=ones * lanes, size=size)

    tiles = -(-shape.group_out // columns)
    extent = shape.batch * shape.groups * division.bands * division.parts
    work = geometry.macs * WORK_PER_MAC * planes * (1.0 if kept is None else kept.share)
    chunks = min(hint(extent), 1) if program.settings.threads <= 1 else program.steps.chunks(extent, work)
    put = program.constants.put

    def order(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return per_column(array, shape.groups, columns)

    low_starts: Buf | int = 0
    if isinstance(zero, Opened):
        fixed, each = (int32_bias(bias, weights, by) for bias, by in ((result.bias, offset), (0 * result.bias, 1)))
        starts, scales = emit_opened(program, zero, order(fixed), order(each), order(result.scales))
    elif given.is_wide:
        starts, low_starts = (put(order(bias)) for bias in wide_biases(result.bias, weights, given.zeros(zero, offset)))
        scales = put(order(result.scales))
    else:
        starts, scales = put(order(int32_bias(result.bias, weights, zero + offset))), put(order(result.scales))
    copied = _copied_bytes(reading, division)
    scratch_bytes = copied * planes + (0 if kept is None else rows * kept.row_bytes)

    words: Words = {
        Arg.INPUT: program.values.read(x, layout),
        Arg.WEIGHTS: program.constants.packed(
            array, (*way, shape.groups, columns, reading.merged, shape.kernel, kept is not None, size), pack
        ),
        Arg.BIAS: starts,
        Arg.LOW_BIAS: low_starts,
        Arg.SCALES: scales,
        Arg.FLOAT_BIAS: 0 if result.float_bias is None else put(per_column(result.float_bias, shape.groups, columns)),
        Arg.OUTPUT: target,
        Arg.SCRATCH: Buf.scratch(scratch_bytes * chunks) if scratch_bytes else 0,
        Arg.SCRATCH_BYTES: scratch_bytes,
        Arg.PLANE: copied,
        Arg.WEIGHT_ZEROS: 0 if weights.zeros is None else put(per_column(int32(weights.zeros), shape.groups, columns)),
        **_division_words(shape, division, tiles, steps, columns + ones * lanes, rows),
        **_lattice_words(shape, lattice),
        **_window_words(reading, multiplied, columns + ones * lanes),
        Arg.PADDING: zero.zero if isinstance(zero, Opened) else given.padding(zero, offset),
        **_kept_words(program, kept, copied),
        "requantization": result.words(lambda array: put(order(array))),
    }
    note = "" if kept is None else kept.note
    program.steps.emit(dense_kernel(variant), words, extent=extent, work=work, chunks=chunks, note=note)


def _sparse(
    program: Program,
    geometry: Geometry,
    weights: npt.NDArray[np.int8],
    unit: QuadUnit,
    reading: Reading,
    limit: float,
    given: Given,
) -> tuple[QuadUnit, Reading, SparseTile | None]:
    """What multiplies only the weights that are kept, where that takes less than ``limit``; else what is given."""
    machine = program.settings.target
    vectors, as_read = QuadUnit.of(machine), reading
    if unit is not vectors:
        as_read = reading_of(geometry, given.changes(vectors), as_it_is=not reading.linear)
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
    program: Program, geometry: Geometry, given: Given, *, as_it_is: bool
) -> tuple[QuadUnit, Reading]:
    """What multiplies, and how windows are read for it: tile registers if runs fill their rows and that is faster."""
    machine, tiles = program.settings.target, program.settings.byte_tiles
    unit = QuadUnit.of(machine)
    reading = reading_of(geometry, given.changes(unit), as_it_is=as_it_is)
    if tiles is None or given.ones:
        return unit, reading
    plain = reading_of(geometry, given.changes(tiles), as_it_is=as_it_is)
    if plain.run % (QUAD * tiles.together):
        return unit, reading
    pixels, channels = hint(math.prod(plain.shape.output)), plain.shape.group_out

    def cost(candidate: QuadUnit) -> float:
        tile = choose_tile(machine, candidate, pixels, channels, plain.steps, planes=given.planes)
        return tile_cost(machine, candidate, tile, pixels, channels, plain.steps, planes=given.planes)

    return (tiles, plain) if cost(tiles) < cost(unit) else (unit, reading)


def _copied_bytes(reading: Reading, division: Division) -> int:
    """Memory for the copied band of a chunk."""
    if reading.copies is Copies.NONE:
        return 0
    shape = reading.shape
    span = (shape.kernel[0] - 1) * shape.dilations[0] + 1
    rows = (division.band_rows - 1) * shape.strides[0] + span
    return (-(-rows * reading.copy_width * shape.group_in // 64) + 1) * 64  # the last quad may reach beyond


def _kept_words(program: Program, kept: KeptBytes | None, copied: int) -> Words:
    if kept is None:
        return {Arg.GATHERED: 0, Arg.GATHERS: 0, Arg.INDICES: 0, Arg.PLACES: 0}
    return {
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
    # where there is one tile, it is followed by the next one's weights, which the processor sees by itself
    is_single = pixel_tiles == 1 and hint(division.bands) == 1
    share = 0 if is_single else -(-tile_weights // 4 // pixel_tiles)
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


def _window_words(reading: Reading, multiplied: Reading, columns: int) -> dict[Arg, int]:
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
        Arg.TAPS: multiplied.taps,
        Arg.TAP_STEP: shape.dilations[1] * pixel,
        Arg.QUADS: multiplied.quads,
        Arg.RUN_WEIGHTS: -(-multiplied.run // QUAD) * QUAD * columns,
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.IN_PIXEL: shape.in_channels,
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.ROW_SPAN: (shape.kernel[0] - 1) * shape.dilations[0] + 1,
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        Arg.COPY_WIDTH: reading.copy_width,
    }


def dense_kernel(variant: Variant) -> KernelSource:
    """The dense kernel of a variant."""
    words = functools.partial(WordLayout.of, Arg, requantization=variant.spec.words)
    return generated("mace_cpu.quantized.convolution.generate", f"bytes_conv_{variant.tag}", variant, words=words)
