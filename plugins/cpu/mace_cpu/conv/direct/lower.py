"""Convolutions through the generated direct kernel: packing of weights, choice of tiles, arguments."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint, is_symbolic, maximum
from mace_cpu.conv.direct.arguments import Arg, Variant
from mace_cpu.conv.direct.choose_tiling import Reading, Tiling, choose_tiling, input_ahead
from mace_cpu.conv.direct.given import emit_given_bias, emit_given_weights
from mace_cpu.conv.geometry import Geometry, may_be_positive
from mace_cpu.conv.scaled.lower import emit_scaled_weights
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.pairs import columns_apart
from mace_cpu.shared.parts.buffers import At, Buf, Layout, aligned_empty
from mace_cpu.shared.parts.forms import ConvolutionForm
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.arguments import MOST_KEPT
from mace_cpu.shared.tiles.choose import (
    ChannelSplit,
    fitting_matrix_rows,
    fitting_rows,
    most_half_rows,
    most_rows,
    single_row_width,
    split_channels,
    widest_tile,
)
from mace_cpu.shared.tiles.kept import KeptSteps, kept_note, used_by_tiles

Floats = npt.NDArray[np.float32]

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

    unit: PairUnit
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
    weights: Floats | Value,
    bias: Floats | Value,
    epilogue: Epilogue,
    target: Buf,
    *,
    plain_input: bool = False,
    destination: Destination | None = None,
    pairs: Pairs | None = None,
    input_scale: Value | None = None,
    sparse: bool = False,
) -> None:
    """Emit the steps of a convolution of weights (O, C / groups, kernel) into a BLOCKED buffer.

    Args:
        geometry: at most two spatial axes.
        weights: known now, or a value that each run packs anew.
        bias: (O,), the same.
        plain_input: read ``x`` in the PLAIN layout (worth it for a few channels).
        pairs: operands are pairs of bfloat16; then ``geometry`` counts pairs of input channels, and ``weights`` is made
            of such pairs.
        input_scale: (1, C, 1, ...), what each channel of ``x`` (one group, BLOCKED) is to be multiplied by.
        sparse: leave out the steps in which a tile's columns have no weights, where there are many such steps.
    """
    block = program.settings.block
    shape = simplified(geometry.with_rank(2)) if destination is None else geometry.with_rank(2)
    image = geometry.with_rank(2).output
    flat = destination is None and shape.is_pointwise and (is_symbolic(image[0]) or image[0] > 1)
    joinable = destination is None and shape.groups == 1 and (shape.is_pointwise or shape.output == image)
    known = None if isinstance(weights, Value) else weights.reshape(shape.out_channels, shape.group_in, *shape.kernel)
    source = program.values.read(x, Layout.PLAIN if plain_input else Layout.BLOCKED if pairs is None else Layout.PAIRS)
    full = Reading.of(shape, block, plain_input=plain_input)
    pair_tensors = tuple(pairs is not None and program.values.has_only(t, Layout.PAIRS) for t in epilogue.tensors)
    tensors = [
        program.values.read(t, Layout.PAIRS if is_narrow else Layout.BLOCKED)
        for t, is_narrow in zip(epilogue.tensors, pair_tensors, strict=True)
    ]
    out_blocks = -(-shape.group_out // block)
    out_h, out_w = shape.output
    destination = destination or Destination(0, out_h * out_w, out_w, 1)
    start = 4 * block * destination.offset
    widest = widest_tile(program.settings.target, block)
    if hint(shape.batch * out_h * out_w) == 1:
        width = single_row_width(hint(out_blocks), program.settings.threads)
        widest = width if pairs is None else min(width, widest)
    for split in split_channels(out_blocks, widest):
        rows = _tile_rows(program, out_w, split, pairs)
        columns = split.blocks * block
        kept = kept_runs(known, shape, block, split, full) if sparse and known is not None and known.size else None
        if kept is not None and not kept.is_worth_it:
            kept = None
        reading = full if kept is None else replace(full, run=kept.count, last_run=kept.count)
        steps = reading.blocks * shape.kernel[0] * reading.taps * reading.run
        nbytes = 4 * shape.groups * split.tiles * columns * steps
        tiling = choose_tiling(shape, reading, split, rows, columns, nbytes, program.settings.threads)
        extent = tiling.positions * split.tiles * shape.groups
        share = split.tiles * split.blocks / out_blocks * (1.0 if kept is None else kept.share)
        work = maximum(geometry.macs * share * SCALAR_WORK_PER_MAC, nbytes * WORK_PER_WEIGHT_BYTE)
        chunks = program.steps.chunks(extent, work)
        if known is None:
            assert isinstance(weights, Value)
            packed_weights = emit_given_weights(program, weights, shape, split, 1 if plain_input else block)
        else:
            apart = pairs is not None and pairs.unit.takes_halves
            pack = functools.partial(_pack_weights, known, shape.groups, block, split, plain_input, kept, apart)
            if input_scale is not None:
                packed_weights = emit_scaled_weights(program, pack(), input_scale)
            else:
                way = ("direct", shape.groups, block, split, plain_input, kept is not None, apart)
                packed_weights = program.constants.packed(known, way, pack)
        if isinstance(bias, Value):
            packed_bias = emit_given_bias(program, bias, shape, split)
        else:
            packed_bias = program.constants.put(_pack_channels(bias, shape.groups, block, split))
        channels = [
            program.constants.put(_pack_channels(values, shape.groups, block, split)) for values in epilogue.channels
        ]
        words: Words = {
            Arg.INPUT: source,
            Arg.WEIGHTS: packed_weights,
            Arg.BIAS: packed_bias,
            Arg.OUTPUT: At(target, start),
            Arg.PAIR_OUTPUT: 0 if pairs is None or pairs.target is None else pairs.target,
            Arg.KEPT: 0 if kept is None else program.constants.put(_kept_places(kept, shape, full, tiling)),
            "channels": channels,
            "tensors": [At(tensor, start) for tensor in tensors],
            **_scratch_words(shape, reading, tiling, columns, chunks, packed_bias),
            **_tiling_words(shape, split, tiling),
            **_input_words(shape, reading, rows),
            **_output_words(shape, split, destination, block),
        }
        form = ConvolutionForm(rows, split.blocks, image[0], image[1], flat, joinable and not epilogue.tensors)
        program.steps.emit(
            direct_kernel(
                rows,
                split.blocks,
                block,
                shape.strides[1],
                plain_input,
                epilogue,
                pairs,
                pair_tensors,
                kept=kept is not None,
                one_tap=kept is not None and math.prod(shape.kernel) == 1,
            ),
            words,
            extent=extent,
            work=work,
            chunks=chunks,
            note=kept_note(kept) if pairs is None else pairs.unit.note,
            form=form if pairs is None else None,
        )


def _tile_rows(program: Program, out_width: int, split: ChannelSplit, pairs: Pairs | None) -> int:
    """Pixels of a tile."""
    if pairs is not None and pairs.unit.has_tiles:
        return fitting_matrix_rows(out_width)
    target, block = program.settings.target, program.settings.block
    if pairs is not None and pairs.unit.takes_halves:
        most = most_half_rows(split.blocks, is_long=pairs.unit is PairUnit.LONG_HALF)
        return fitting_rows(out_width, most, split.blocks)
    vectors = split.blocks * max(block * 32 // target.vector_bits, 1)
    return fitting_rows(out_width, most_rows(target, block, split.blocks), vectors)


def simplified(shape: Geometry) -> Geometry:
    """The same convolution with as long rows as there are."""
    if shape.is_pointwise:
        pixels = math.prod(shape.image)
        return replace(shape, image=(1, pixels), output=(1, pixels))
    narrow = shape.image[1] == 1 and shape.output[1] == 1 and shape.kernel[1] == 1 and shape.pads[1] == 0
    if narrow and hint(shape.output[0]) > 1:
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


def _scratch_words(
    shape: Geometry, reading: Reading, tiling: Tiling, columns: int, chunks: int, unused: Buf
) -> dict[Arg, int | Buf]:
    """Memory of each chunk for the window of a tile and for sums between passes; ``unused`` stands for none at all."""
    window_floats = _window_floats(shape, reading, tiling)
    sum_floats = 0
    if tiling.pass_blocks < reading.blocks:
        sum_floats = tiling.group_rows * tiling.segment_tiles * tiling.rows * columns
    floats = window_floats + sum_floats
    return {
        Arg.SCRATCH: Buf.scratch(4 * floats * chunks) if floats else unused,
        Arg.SCRATCH_FLOATS: floats,
        Arg.WINDOW_FLOATS: window_floats,
    }


def _window_floats(shape: Geometry, reading: Reading, tiling: Tiling) -> int:
    """Scratch memory for a copy of what a tile sees, where some window reaches beyond the left or right border."""
    span = (shape.kernel[1] - 1) * shape.dilations[1] + 1
    last = (shape.output[1] - 1) * shape.strides[1] - shape.pads[1]
    if not may_be_positive(shape.pads[1]) and not may_be_positive(last + span - shape.image[1]):
        return 0
    floats = tiling.pass_blocks * shape.kernel[0] * _window_width(shape, tiling.rows) * reading.step
    return -(-floats // 16) * 16


def _window_width(shape: Geometry, rows: int) -> int:
    """Pixels of one row that a tile of ``rows`` pixels sees."""
    return (rows - 1) * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1] + 1


def _tiling_words(shape: Geometry, split: ChannelSplit, tiling: Tiling) -> dict[Arg, int]:
    return {
        Arg.OC_TILES: split.tiles,
        Arg.ALL_OC_TILES: split.tiles * shape.groups,
        Arg.ROW_GROUPS: tiling.row_groups,
        Arg.GROUP_ROWS: tiling.group_rows,
        Arg.PASS_BLOCKS: tiling.pass_blocks,
        Arg.TILE_FETCH: tiling.tile_fetch,
        Arg.STEPS_FETCH: tiling.steps_fetch,
        Arg.SEGMENTS: tiling.segments,
        Arg.SEGMENT_TILES: tiling.segment_tiles,
        Arg.BAND: tiling.band,
        Arg.POSITIONS: tiling.positions,
    }


def _input_words(shape: Geometry, reading: Reading, rows: int) -> dict[Arg, int]:
    """How tiles of ``rows`` pixels read the input."""
    return {
        Arg.INPUT_AHEAD: input_ahead(shape, reading, rows),
        Arg.IN_ROWS: shape.image[0],
        Arg.IN_WIDTH: shape.image[1],
        Arg.IN_BLOCKS: reading.blocks,
        Arg.IN_IMAGE: reading.image_floats,
        Arg.KERNEL_ROWS: shape.kernel[0],
        Arg.ROW_DILATION: shape.dilations[0],
        Arg.ROW_STRIDE: shape.strides[0],
        Arg.PAD_TOP: shape.pads[0],
        Arg.PAD_LEFT: shape.pads[1],
        Arg.TAPS: reading.taps,
        Arg.TAP_STEP: shape.dilations[1] * reading.step,
        Arg.RUN: reading.run,
        Arg.LAST_RUN: reading.last_run,
        Arg.WINDOW_WIDTH: _window_width(shape, rows),
    }


def _output_words(shape: Geometry, split: ChannelSplit, destination: Destination, block: int) -> dict[Arg, int]:
    """Where the results of a split go."""
    group_blocks = -(-shape.group_out // block)
    all_blocks = shape.groups * group_blocks
    return {
        Arg.OUT_ROWS: shape.output[0],
        Arg.OUT_WIDTH: shape.output[1],
        Arg.OUT_BLOCKS: group_blocks,
        Arg.FIRST_OUT_BLOCK: split.first,
        Arg.OUT_IMAGE: all_blocks * destination.image * block,
        Arg.OUT_BLOCK: destination.image * block,
        Arg.OUT_ROW: destination.row * block,
        Arg.OUT_PIXEL: destination.pixel * block,
        Arg.PAIR_IMAGE: -(-all_blocks // 2) * destination.image * block,
        Arg.LONE_BLOCK: all_blocks - 1 if all_blocks % 2 else -1,
    }


def _pack_weights(
    weights: Floats,
    groups: int,
    block: int,
    split: ChannelSplit,
    plain_input: bool,
    kept: KeptSteps | None = None,
    apart: bool = False,
) -> Floats:
    """(O, C / groups, kh, kw) as [group][channel tile][in block][kh][kw][channel in block][columns].

    With ``kept``: as [group][channel tile][in block][kh][run][step that is kept][columns].  With ``apart``: see
    `columns_apart`.
    """
    columns = split.blocks * block
    grouped = weights.reshape(groups, len(weights) // groups, *weights.shape[1:])[:, split.first * block :][
        :, : split.tiles * columns
    ]
    packed = _arranged(grouped, split.tiles, columns, 1 if plain_input else block)
    if kept is not None:
        packed = kept.of_rows(packed.reshape(*kept.order.shape[:-1], kept.run, columns))
    target = aligned_empty(packed.shape)
    target[...] = columns_apart(packed) if apart else packed
    return target


def _arranged(grouped: npt.NDArray[Any], tiles: int, columns: int, step: int) -> npt.NDArray[Any]:
    """(groups, O / groups, C / groups, kh, kw) in the order of `_pack_weights`, zeros where there are no channels."""
    groups, _, group_in, kernel_h, kernel_w = grouped.shape
    in_blocks = -(-group_in // step)
    if grouped.shape[1:3] != (tiles * columns, in_blocks * step):
        full = np.zeros((groups, tiles * columns, in_blocks * step, kernel_h, kernel_w), grouped.dtype)
        full[:, : grouped.shape[1], :group_in] = grouped
        grouped = full
    tiled = grouped.reshape(groups, tiles, columns, in_blocks, step, kernel_h, kernel_w)
    return tiled.transpose(0, 1, 3, 5, 6, 4, 2)


def kept_runs(weights: Floats, shape: Geometry, block: int, split: ChannelSplit, reading: Reading) -> KeptSteps:
    """Which steps the tiles of a split need, as [group][channel tile][in block][kernel row][run][step].

    Args:
        weights: (O, C / groups, kh, kw).
        shape: of two axes.
        reading: of all steps.
    """
    columns = split.blocks * block
    grouped = weights.reshape(shape.groups, len(weights) // shape.groups, *weights.shape[1:])[:, split.first * block :]
    grouped = grouped[:, : split.tiles * columns]
    used = np.stack([used_by_tiles(group, columns) for group in grouped])
    runs = shape.groups, split.tiles, reading.blocks, shape.kernel[0], reading.taps, reading.run
    return KeptSteps.of(_arranged(used, split.tiles, 1, reading.step).reshape(runs))


def direct_share(program: Program, geometry: Geometry, weights: Floats) -> float:
    """How much of the products is left where tiles leave out steps that none of their channels has weights for."""
    if not weights.size:
        return 1.0
    block = program.settings.block
    shape = simplified(geometry.with_rank(2))
    weights = weights.reshape(shape.out_channels, shape.group_in, *shape.kernel)
    reading = Reading.of(shape, block, plain_input=False)
    splits = split_channels(-(-shape.group_out // block), widest_tile(program.settings.target, block))
    share = max(kept_runs(weights, shape, block, split, reading).share for split in splits)
    return share if share <= MOST_KEPT else 1.0


def _kept_places(kept: KeptSteps, shape: Geometry, reading: Reading, tiling: Tiling) -> npt.NDArray[np.int32]:
    """Where in its run each step begins that is kept, none beyond the channels there are; for one tap: in its pass."""
    places = kept.order.copy()
    np.minimum(places[:, :, -1], reading.last_run - 1, out=places[:, :, -1])
    if math.prod(shape.kernel) == 1:
        blocks = np.arange(reading.blocks, dtype=np.int32) % tiling.pass_blocks
        places += reading.step * blocks[:, None, None, None]
    return places


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
    *,
    kept: bool = False,
    one_tap: bool = False,
) -> KernelSource:
    """The direct kernel for a tile, a horizontal stride, an epilogue and the form of operands and results."""
    tag = epilogue.tag
    form = ("p" if plain_input else "b") + ("kept" + ("1_" if one_tap else "_") if kept else "")
    unit, stores = (None, "floats") if pairs is None else (pairs.unit, pairs.stores)
    if unit is not None:
        narrow = "".join("p" if is_narrow else "f" for is_narrow in pair_tensors)
        form = f"{unit.tag}_{stores}{narrow}_"
    symbol = f"conv_{form}{block}_{rows}x{blocks}_s{stride}" + (f"_{tag}" if tag else "")
    variant = Variant(rows, blocks, block, stride, plain_input, UNROLL, unit, stores, pair_tensors, kept, one_tap)
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated("mace_cpu.conv.direct.generate", symbol, variant, epilogue.ops, words=words)
