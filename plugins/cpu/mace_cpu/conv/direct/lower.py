"""Convolutions through the generated direct kernel: packing of weights, choice of tiles, arguments."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.conv.direct.arguments import Arg, Variant
from mace_cpu.conv.geometry import Geometry
from mace_cpu.conv.scaled.lower import emit_scaled_weights
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.parts.buffers import At, Buf, Layout, aligned_empty
from mace_cpu.shared.parts.forms import ConvolutionForm
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.precision import Bfloat16Unit
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.arguments import STEPS_PER_FETCH
from mace_cpu.shared.tiles.choose import (
    ChannelSplit,
    choose_matrix_rows,
    choose_rows,
    most_rows,
    segment_tiles,
    split_channels,
    widest_tile,
)

Floats = npt.NDArray[np.float32]

CACHED_INPUT_BYTES = 1 << 20
"""How much input is swept once per tile of channels: it should stay in the second level cache."""

CACHED_WEIGHT_BYTES = 24 << 10
"""Weights of one tile of channels that are swept once per tile of pixels: about half the first level cache."""

FAR_INPUT_BYTES = 1 << 20
"""A larger image is fetched ahead of its use, as it comes from beyond the second level cache."""

SUM_TILES = 8
"""Tiles per unit whose sums are kept between passes."""

SCALAR_WORK_PER_MAC = 1 / 8
WORK_PER_WEIGHT_BYTE = 0.4
UNROLL = 1


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go, for a convolution that fills a lattice of its result (one phase of a ConvTranspose).

    Attributes:
        offset: of the first pixel, in pixels.
        image, row, pixel: from image block to image block, row to row and pixel to pixel, in pixels.
    """

    offset: int
    image: int
    row: int
    pixel: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """How a convolution of pairs of bfloat16 is done.

    Attributes:
        unit: what multiplies them.
        stores: whether the result is stored as "floats", "pairs" or "both".
        target: where it is stored in the PAIRS layout, if it is.
    """

    unit: Bfloat16Unit
    stores: str = "floats"
    target: Buf | None = None


def fits_direct(geometry: Geometry, block: int) -> bool:
    """Whether the direct kernel covers it: up to two axes, groups of whole blocks."""
    whole_groups = geometry.groups == 1 or (geometry.group_in % block == 0 and geometry.group_out % block == 0)
    return len(geometry.image) <= 2 and geometry.is_generated and whole_groups


def emit_direct(
    program: Program,
    geometry: Geometry,
    x: Value,
    weights: Floats,
    bias: Floats,
    epilogue: Epilogue,
    target: Buf,
    *,
    plain_input: bool = False,
    destination: Destination | None = None,
    pairs: Pairs | None = None,
    input_scale: Value | None = None,
) -> None:
    """Emit the steps of a convolution of constant weights (O, C / groups, kernel) into a BLOCKED buffer.

    Args:
        geometry: at most two spatial axes.
        bias: (O,).
        plain_input: read ``x`` in the PLAIN layout (worth it for a few channels).
        pairs: operands are pairs of bfloat16; then ``geometry`` counts pairs of input channels, and ``weights`` is made
            of such pairs.
        input_scale: (1, C, 1, ...), what each channel of ``x`` (one group, BLOCKED) is to be multiplied by.
    """
    block = program.settings.block
    shape = simplified(geometry.with_rank(2)) if destination is None else geometry.with_rank(2)
    image = geometry.with_rank(2).output
    joinable = destination is None and shape.groups == 1 and (shape.is_pointwise or shape.output == image)
    weights = weights.reshape(shape.out_channels, shape.group_in, *shape.kernel)
    source = program.values.read(x, Layout.PLAIN if plain_input else Layout.BLOCKED if pairs is None else Layout.PAIRS)
    pair_tensors = tuple(pairs is not None and program.values.has_only(t, Layout.PAIRS) for t in epilogue.tensors)
    tensors = [
        program.values.read(t, Layout.PAIRS if is_narrow else Layout.BLOCKED)
        for t, is_narrow in zip(epilogue.tensors, pair_tensors, strict=True)
    ]
    out_blocks = -(-shape.group_out // block)
    out_h, out_w = shape.output
    destination = destination or Destination(0, out_h * out_w, out_w, 1)
    one_pixel = shape.batch * out_h * out_w == 1  # as many units as there can be: they wait for weights
    for split in split_channels(out_blocks, 1 if one_pixel else widest_tile(program.settings.target, block)):
        if pairs is not None and pairs.unit.has_tiles:
            rows = choose_matrix_rows(out_w)
        else:
            rows = choose_rows(
                out_w,
                most_rows(program.settings.target, block, split.blocks),
                split.blocks * max(block * 32 // program.settings.target.vector_bits, 1),
            )
        kernel = direct_kernel(rows, split.blocks, block, shape.strides[1], plain_input, epilogue, pairs, pair_tensors)
        packed = _pack_weights(weights, shape.groups, block, split, plain_input)
        numbers = _numbers(program, shape, packed.nbytes, split, rows, plain_input, destination)
        in_window = _reaches_outside(shape)
        pixel = 1 if plain_input else block
        window_floats = numbers[Arg.PASS_BLOCKS] * shape.kernel[0] * numbers[Arg.WINDOW_WIDTH] * pixel
        window_floats = -(-window_floats // 16) * 16 if in_window else 0
        scratch_floats = window_floats
        if numbers[Arg.PASS_BLOCKS] < numbers[Arg.IN_BLOCKS]:
            scratch_floats += numbers[Arg.GROUP_ROWS] * numbers[Arg.SEGMENT_TILES] * rows * split.blocks * block
        extent = numbers[Arg.POSITIONS] * numbers[Arg.ALL_OC_TILES]
        share = split.tiles * split.blocks / out_blocks
        work = max(geometry.macs * share * SCALAR_WORK_PER_MAC, packed.nbytes * WORK_PER_WEIGHT_BYTE)
        chunks = program.steps.chunks(extent, work)
        start = 4 * block * destination.offset
        packed_weights = program.constants.put(packed, in_place=True)
        if input_scale is not None:
            packed_weights = emit_scaled_weights(program, packed, input_scale)
        packed_bias = program.constants.put(_pack_channels(bias, shape.groups, block, split))
        words: Words = {
            Arg.INPUT: source,
            Arg.WEIGHTS: packed_weights,
            Arg.BIAS: packed_bias,
            Arg.OUTPUT: At(target, start),
            Arg.PAIR_OUTPUT: 0 if pairs is None or pairs.target is None else pairs.target,
            Arg.SCRATCH: Buf.scratch(4 * scratch_floats * chunks) if scratch_floats else packed_bias,
            Arg.SCRATCH_FLOATS: scratch_floats,
            Arg.WINDOW_FLOATS: window_floats,
            **numbers,
            "channels": [
                program.constants.put(_pack_channels(channel, shape.groups, block, split))
                for channel in epilogue.channels
            ],
            "tensors": [At(tensor, start) for tensor in tensors],
        }
        form = ConvolutionForm(
            rows, split.blocks, image[0], image[1], shape.output != image, joinable and not epilogue.tensors
        )
        note = "" if pairs is None else f"bfloat16 {pairs.unit.value}"
        form_given = form if pairs is None else None
        program.steps.emit(kernel, words, extent=extent, work=work, chunks=chunks, note=note, form=form_given)


def simplified(shape: Geometry) -> Geometry:
    """The same convolution with as long rows as there are."""
    if shape.is_pointwise:
        pixels = math.prod(shape.image)
        return replace(shape, image=(1, pixels), output=(1, pixels))
    narrow = shape.image[1] == 1 and shape.output[1] == 1 and shape.kernel[1] == 1 and shape.pads[1] == 0
    if narrow and shape.output[0] > 1:
        return replace(
            shape,
            image=shape.image[::-1],
            kernel=shape.kernel[::-1],
            output=shape.output[::-1],
            strides=shape.strides[::-1],
            dilations=shape.dilations[::-1],
            pads=shape.pads[::-1],
        )
    return shape


def _reaches_outside(shape: Geometry) -> bool:
    """Whether some window reaches beyond the left or right border."""
    span = (shape.kernel[1] - 1) * shape.dilations[1] + 1
    last = (shape.output[1] - 1) * shape.strides[1] - shape.pads[1]
    return shape.pads[1] > 0 or last + span > shape.image[1]


def _numbers(
    program: Program,
    shape: Geometry,
    weight_bytes: int,
    split: ChannelSplit,
    rows: int,
    plain_input: bool,
    destination: Destination,
) -> dict[Arg, int]:
    """The argument words that are numbers, but for the sizes of scratch memory."""
    block = program.settings.block
    step = 1 if plain_input else block
    (in_h, in_w), (kernel_h, kernel_w), (out_h, out_w) = shape.image, shape.kernel, shape.output
    in_blocks = shape.group_in if plain_input else -(-shape.group_in // block)
    tail = 0 if plain_input else shape.group_in % block
    merged = shape.dilations[1] == 1 and not tail
    run = step * kernel_w if merged else step
    tiles = -(-out_w // rows)
    units = shape.batch * out_h * split.tiles * shape.groups
    in_segment = segment_tiles(tiles, units, program.settings.threads)
    segments = -(-tiles // in_segment)
    block_weights = step * kernel_h * kernel_w * split.blocks * block
    pass_blocks = _pass_blocks(in_blocks, 4 * block_weights)
    group_rows = 1
    if pass_blocks < in_blocks:
        group_rows = max(min(SUM_TILES // in_segment, out_h), 1)
    row_groups = -(-out_h // group_rows)
    tile_fetch = -(-pass_blocks * block_weights // (group_rows * in_segment))
    fetches = max(pass_blocks * kernel_h * (1 if merged else kernel_w) * -(-run // STEPS_PER_FETCH), 1)
    positions = shape.batch * row_groups * segments
    in_image = shape.in_channels if plain_input else shape.groups * in_blocks * block
    position_bytes = 4 * in_image * in_h * in_w / max(row_groups * segments, 1)
    band = positions
    if weight_bytes < CACHED_INPUT_BYTES:
        band = max(min(int(CACHED_INPUT_BYTES / max(position_bytes, 1)), positions), 1)
    all_out_blocks = shape.groups * -(-shape.group_out // block)
    return {
        Arg.OC_TILES: split.tiles,
        Arg.ALL_OC_TILES: split.tiles * shape.groups,
        Arg.OUT_ROWS: out_h,
        Arg.ROW_GROUPS: row_groups,
        Arg.GROUP_ROWS: group_rows,
        Arg.PASS_BLOCKS: pass_blocks,
        Arg.TILE_FETCH: tile_fetch,
        Arg.STEPS_FETCH: -(-tile_fetch // fetches),
        Arg.INPUT_AHEAD: _input_ahead(shape, rows, step) if 4 * in_image * in_h * in_w > FAR_INPUT_BYTES else 0,
        Arg.SEGMENTS: segments,
        Arg.SEGMENT_TILES: in_segment,
        Arg.OUT_WIDTH: out_w,
        Arg.BAND: band,
        Arg.POSITIONS: positions,
        Arg.IN_ROWS: in_h,
        Arg.IN_WIDTH: in_w,
        Arg.IN_BLOCKS: in_blocks,
        Arg.IN_IMAGE: in_image * in_h * in_w,
        Arg.KERNEL_ROWS: kernel_h,
        Arg.ROW_DILATION: shape.dilations[0],
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        Arg.TAPS: 1 if merged else kernel_w,
        Arg.TAP_STEP: shape.dilations[1] * step,
        Arg.RUN: run,
        Arg.LAST_RUN: tail or run,
        Arg.WINDOW_WIDTH: (rows - 1) * shape.strides[1] + (kernel_w - 1) * shape.dilations[1] + 1,
        Arg.OUT_BLOCKS: -(-shape.group_out // block),
        Arg.FIRST_OUT_BLOCK: split.first,
        Arg.OUT_IMAGE: all_out_blocks * destination.image * block,
        Arg.OUT_BLOCK: destination.image * block,
        Arg.OUT_ROW: destination.row * block,
        Arg.OUT_PIXEL: destination.pixel * block,
        Arg.PAIR_IMAGE: -(-all_out_blocks // 2) * destination.image * block,
        Arg.LONE_BLOCK: all_out_blocks - 1 if all_out_blocks % 2 else -1,
    }


def _input_ahead(shape: Geometry, rows: int, step: int) -> int:
    """From a tile's window to the input that comes into use next: the next tile's, or the row the next row begins."""
    if shape.output[0] == 1:
        return rows * shape.strides[1] * step
    below = (shape.kernel[0] - 1) * shape.dilations[0] + shape.strides[0]
    return below * shape.image[1] * step


def _pass_blocks(in_blocks: int, block_weight_bytes: int) -> int:
    """Input blocks per pass: as many as keep their weights in the first level cache, evenly spread over the passes."""
    most = max(CACHED_WEIGHT_BYTES // max(block_weight_bytes, 1), 1)
    if in_blocks <= most:
        return max(in_blocks, 1)
    passes = -(-in_blocks // most)
    return -(-in_blocks // passes)


def _pack_weights(weights: Floats, groups: int, block: int, split: ChannelSplit, plain_input: bool) -> Floats:
    """(O, C / groups, kh, kw) as [group][channel tile][in block][kh][kw][channel in block][columns]."""
    out_channels, group_in, kernel_h, kernel_w = weights.shape
    step = 1 if plain_input else block
    in_blocks = -(-group_in // step)
    grouped = weights.reshape(groups, out_channels // groups, group_in, kernel_h, kernel_w)
    first, columns = split.first * block, split.blocks * block
    grouped = grouped[:, first : first + split.tiles * columns]
    if grouped.shape[1:3] != (split.tiles * columns, in_blocks * step):
        full = np.zeros((groups, split.tiles * columns, in_blocks * step, kernel_h, kernel_w), np.float32)
        full[:, : grouped.shape[1], :group_in] = grouped
        grouped = full
    tiled = grouped.reshape(groups, split.tiles, columns, in_blocks, step, kernel_h, kernel_w)
    packed = tiled.transpose(0, 1, 3, 5, 6, 4, 2)
    target = aligned_empty(packed.shape)
    target[...] = packed
    return target


def _pack_channels(values: Floats, groups: int, block: int, split: ChannelSplit) -> Floats:
    """(O,) as [group][channel tile][columns], zeros for channels that do not exist."""
    grouped = values.reshape(groups, -1)[:, split.first * block :]
    wanted = split.tiles * split.blocks * block
    full = np.zeros((groups, wanted), np.float32)
    full[:, : min(wanted, grouped.shape[1])] = grouped[:, :wanted]
    return full


def direct_kernel(
    rows: int,
    blocks: int,
    block: int,
    stride: int,
    plain_input: bool,
    epilogue: Epilogue,
    pairs: Pairs | None = None,
    pair_tensors: tuple[bool, ...] = (),
) -> KernelSource:
    """The direct kernel for a tile, a horizontal stride, an epilogue and the form of operands and results."""
    tag = epilogue.tag
    form = "p" if plain_input else "b"
    unit, stores = (None, "floats") if pairs is None else (pairs.unit, pairs.stores)
    if unit is not None:
        narrow = "".join("p" if is_narrow else "f" for is_narrow in pair_tensors)
        form = f"{unit.value.replace('-', '_')}_{stores}{narrow}_"
    symbol = f"conv_{form}{block}_{rows}x{blocks}_s{stride}" + (f"_{tag}" if tag else "")
    variant = Variant(rows, blocks, block, stride, plain_input, UNROLL, unit, stores, pair_tensors)
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated("mace_cpu.conv.direct.generate", symbol, variant, epilogue.ops, words=words)
