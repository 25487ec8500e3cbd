"""Matrix products through the generated kernel: packing of the right operand, choice of tiles, arguments."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.symbolic import hint, is_same, is_symbolic
from mace_cpu.matmul.arguments import Arg, Variant
from mace_cpu.matmul.product import Product
from mace_cpu.matmul.sparse import dense_right, kept_steps, product_shares
from mace_cpu.matmul.two_of_four import is_two_of_four, pack_picks, panel_words, vectors_of
from mace_cpu.matmul.views import Lie
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.moving import panels_kernel
from mace_cpu.shared.layouts.pairs import columns_apart
from mace_cpu.shared.layouts.words import emit_number
from mace_cpu.shared.parts.buffers import Buf, aligned_empty
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.parts.views import Offsets
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.arguments import MOST_KEPT, STEPS_PER_FETCH
from mace_cpu.shared.tiles.choose import (
    MATRIX_VECTORS,
    ChannelSplit,
    choose_matrix_rows,
    choose_rows,
    most_half_rows,
    most_rows,
    segment_tiles,
    split_channels,
)
from mace_cpu.shared.tiles.kept import KeptSteps, kept_note

Floats = npt.NDArray[np.float32]

KERNELS = "mace_cpu.matmul.kernels"
HALVES = 8
"""Columns of float16 in a vector."""

UNROLL = 4
MOST_ROWS = 12
"""Three rows of the left operand share an address register, and there are few of those."""

PACKED_STEPS = 32
"""Steps per unit of packing: rows of the source that are read at a time."""

MOST_ROWS_IN_PLACE = 16
"""For so few rows packing a right operand at run time costs more than reading it where it lies."""

PANEL_BYTES = 32 << 10
RELOAD = 0.25
"""Cost of a vector of a panel that does not stay in the first level cache, in multiplications."""

FAR_VECTOR = 8.0
"""Cost of a vector of a panel that comes from beyond the second level cache, in multiplications."""

TWO_OF_FOUR = "2:4 in each column, 50% of the products"

CACHED_LEFT_BYTES = 1 << 20
SCALAR_WORK_PER_MAC = 1 / 8


def emit_product(
    program: Program,
    product: Product,
    left: Buf,
    right: Floats | Buf,
    bias: Floats,
    epilogue: Epilogue,
    tensors: Sequence[Buf],
    target: Buf,
    *,
    unit: PairUnit | None = None,
) -> None:
    """Emit ``target = epilogue(left @ right + bias)``, all operands float32, the result dense.

    Args:
        right: the matrices (any, steps, columns) if they are known (transposed if ``transposed_right``), else where
            they will lie.
        bias: (columns,); see `uniform`.
        epilogue: its per-channel operands vary along the columns.
        tensors: the buffers of its tensor operands.
        unit: multiplies pairs of bfloat16; then ``product`` counts pairs of steps, and both operands (the right one is
            known) are made of such pairs.
    """
    lanes = max(program.settings.target.vector_bits // 32, 4)
    if unit is not None and unit.takes_halves:
        lanes = HALVES
    left_lie = product.left_lie()
    sparse: tuple[KeptSteps, ...] = ()
    in_place = right if isinstance(right, Buf) and _reads_in_place(product, lanes) else None
    if in_place is not None:
        vectors = min(_widths(program.settings.target)[0], hint(product.columns) // lanes)
        if product.columns < vectors * lanes:
            raise AssertionError("the hint is a size")
        splits = [ChannelSplit(0, -(-product.columns // (vectors * lanes)), vectors)]
    else:
        shares = product_shares(product, right, lanes, _widths(program.settings.target)) if unit is None else {}
        splits = _split_columns(program.settings.target, product, lanes, unit, shares)
        if shares.get(splits[0].blocks, 1.0) <= MOST_KEPT and not isinstance(right, Buf):
            sparse = tuple(kept_steps(product, right, split, lanes) for split in splits)
    picks = in_place is None and unit is None and not sparse and is_two_of_four(program.settings.target, product, right)
    if picks:
        vectors = vectors_of(program.settings.target, product.columns)
        splits = [ChannelSplit(0, -(-product.columns // (vectors * lanes)), vectors)]
    for number, split in enumerate(splits):
        kept = sparse[number] if sparse else None
        if kept is not None and not kept.is_worth_it:
            kept = None
        steps = product.steps if kept is None else kept.count
        tiling = _tiling(program, product, split, lanes, unit)
        words: Words = {
            Arg.LEFT: left,
            Arg.RIGHT: (
                _packed_right(program, product, right, split, tiling.width, kept, picks=picks, unit=unit)
                if in_place is None
                else in_place
            ),
            Arg.KEPT: 0 if kept is None else program.constants.put(kept.order),
            Arg.BIAS: _per_column(program, bias, split, lanes),
            Arg.OUTPUT: target,
            Arg.LEFT_OFFSETS: program.offsets(left_lie.starts.broadcast(product.stack)),
            **_right_words(
                program,
                product,
                panel_words(product.steps) if picks else steps,
                split,
                tiling,
                in_place is not None,
            ),
            "channels": [_per_column(program, c, split, lanes) for c in epilogue.channels],
            "tensors": tensors,
            Arg.OUT_MATRIX: product.rows * product.columns,
            Arg.UNITS: tiling.segments * split.tiles,
            Arg.ROWS: product.rows,
            Arg.STEPS: steps,
            Arg.COLUMNS: product.columns,
            Arg.FIRST_COLUMN: split.first * lanes,
            Arg.PANELS: split.tiles,
            Arg.LEFT_STRIDE: left_lie.step,
            Arg.OUT_ROW: product.columns,
            Arg.SEGMENT: tiling.segment,
            Arg.SEGMENTS: tiling.segments,
            Arg.BAND: tiling.band,
        }
        share = hint(split.tiles) * split.blocks / sum(hint(s.tiles) * s.blocks for s in splits)
        program.steps.emit(
            gemm_kernel(
                tiling.rows,
                split.blocks,
                lanes,
                left_lie.transposed,
                epilogue,
                unit,
                kept=kept is not None,
                picks=picks,
            ),
            words,
            extent=product.count * tiling.segments * split.tiles,
            work=product.macs * share * (1.0 if kept is None else kept.share) * SCALAR_WORK_PER_MAC,
            note=TWO_OF_FOUR if picks else kept_note(kept) if unit is None else unit.note,
        )


def _reads_in_place(product: Product, lanes: int) -> bool:
    """Whether a right operand that is not known is read where it lies, instead of being packed into panels."""
    return not product.right_lie().transposed and product.rows <= MOST_ROWS_IN_PLACE and product.columns >= lanes


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the results of one split are computed.

    Attributes:
        rows: of a tile.
        width: columns of a tile, and of a panel of the right operand.
        segment: rows that a unit of work computes.
        segments: into how many such the rows are divided.
        band: segments that take one panel after another together, while their rows stay in a cache.
    """

    rows: int
    width: int
    segment: int
    segments: int
    band: int


def _tiling(program: Program, product: Product, split: ChannelSplit, lanes: int, unit: PairUnit | None) -> Tiling:
    rows = _tile_rows(program.settings.target, product, lanes, split.blocks, unit)
    width = split.blocks * lanes
    tiles = segment_tiles(-(-product.rows // rows), product.count * split.tiles, program.settings.threads)
    segment = rows * tiles
    segments = -(-product.rows // segment)
    band = segments
    if 4 * hint(product.steps * width * split.tiles) < CACHED_LEFT_BYTES:  # any number of segments is right
        band = max(min(CACHED_LEFT_BYTES // max(4 * segment * hint(product.steps), 1), hint(segments)), 1)
    return Tiling(rows, width, segment, segments, band)


def _right_words(
    program: Program, product: Product, steps: int, split: ChannelSplit, tiling: Tiling, in_place: bool
) -> Words:
    """Where the right operand's matrices begin, how they lie, and how much of them is fetched ahead per tile.

    Args:
        steps: of a panel.
    """
    lie = product.right_lie()
    if in_place:  # there are no panels
        return {
            Arg.RIGHT_OFFSETS: program.offsets(lie.starts.broadcast(product.stack)),
            Arg.TILE_FETCH: 0,
            Arg.STEPS_FETCH: 0,
            Arg.LAST_PANEL: product.columns - tiling.width,
            Arg.RIGHT_STEP: lie.step,
            Arg.RIGHT_COLUMN: 1,
        }
    panel = steps * tiling.width
    starts = Offsets.of_dense(product.right, split.tiles * panel)
    tiles = tiling.segment // tiling.rows
    # a single tile reads panel after panel, which the processor sees by itself
    tile_fetch = 0 if is_same(tiles * tiling.segments, 1) else -(-panel // tiles)
    return {
        Arg.RIGHT_OFFSETS: program.offsets(starts.broadcast(product.stack)),
        Arg.TILE_FETCH: tile_fetch,
        Arg.STEPS_FETCH: -(-tile_fetch // max(-(-steps // STEPS_PER_FETCH), 1)),
        Arg.LAST_PANEL: split.tiles * tiling.width,
        Arg.RIGHT_STEP: tiling.width,
        Arg.RIGHT_COLUMN: steps,
    }


HALF_WIDTHS = (2, 1)
"""Vectors of eight columns per row of a tile of float16."""


def _widths(target: Target) -> tuple[int, ...]:
    """Vectors per row of a tile to choose from: first for products whose right operand is read in place."""
    return (4, 3) if target.vector_bits >= 512 or target.architecture == "aarch64" else (2,)


def _tile_rows(target: Target, product: Product, lanes: int, vectors: int, unit: PairUnit | None) -> int:
    if unit is not None and unit.has_tiles:
        rows = choose_matrix_rows(hint(product.rows))
    elif unit is not None and unit.takes_halves:
        rows = choose_rows(hint(product.rows), most_half_rows(vectors, is_long=unit is PairUnit.LONG_HALF), vectors)
    else:
        rows = choose_rows(hint(product.rows), min(most_rows(target, lanes, vectors), MOST_ROWS), vectors)
    return rows if product.rows >= rows else 1  # a tile is moved back where rows are missing


def _split_columns(
    target: Target, product: Product, lanes: int, unit: PairUnit | None, shares: Mapping[int, float]
) -> list[ChannelSplit]:
    """The cheapest way to cover the columns with panels.

    Args:
        shares: how much of the steps panels of so many vectors keep; where it is not in there, all.
    """
    vectors = -(-product.columns // lanes)
    halves = unit is not None and unit.takes_halves
    if is_symbolic(product.columns):
        return split_channels(vectors, HALF_WIDTHS[0] if halves else _widths(target)[0])
    if unit is not None and unit.has_tiles:
        return split_channels(vectors, MATRIX_VECTORS)
    widths = HALF_WIDTHS if halves else _widths(target)

    def cost(splits: list[ChannelSplit]) -> float:
        total = 0.0
        for split in splits:
            rows = _tile_rows(target, product, lanes, split.blocks, unit)
            # a panel that fills the first level cache comes from the second one for every tile
            kept = shares.get(split.blocks, 1.0)
            reload = RELOAD if 4 * hint(product.steps) * kept * split.blocks * lanes > PANEL_BYTES else 0.0
            step = max(rows * split.blocks, rows + split.blocks, 8) + 0.5 + reload * split.blocks
            if shares and hint(product.rows) <= rows:  # weights that are read once, from far
                step = max(step, FAR_VECTOR * split.blocks)
            total += split.tiles * -(-hint(product.rows) // rows) * step * kept
        return total

    return min((split_channels(vectors, widest) for widest in dict.fromkeys((*widths, *shares))), key=cost)


def _packed_right(
    program: Program,
    product: Product,
    right: Floats | Buf,
    split: ChannelSplit,
    width: int,
    kept: KeptSteps | None = None,
    *,
    picks: bool = False,
    unit: PairUnit | None = None,
) -> Buf:
    """The panels of one split: a constant, or scratch memory filled by a step of its own."""
    first = split.first * (width // split.blocks)
    if isinstance(right, Buf):
        return pack_panels(
            program, right, product.right_lie(), product.steps, product.columns, width, split.tiles, first
        )
    matrices = math.prod(product.right)
    sizes = (matrices, product.steps, product.columns, product.transposed_right, first, width, split.tiles)
    if picks:
        return program.constants.packed(right, ("picks", *sizes), lambda: pack_picks(product, right, width))
    apart = unit is not None and unit.takes_halves
    return program.constants.packed(
        right,
        ("panels", *sizes, kept is not None, apart),
        lambda: _pack(product, right, matrices, first, width, split.tiles, kept, apart=apart),
    )


def _pack(
    product: Product,
    right: Floats,
    matrices: int,
    first: int,
    width: int,
    tiles: int,
    kept: KeptSteps | None = None,
    *,
    apart: bool = False,
) -> Floats:
    """The right operand as [matrix][tile][step][column of the tile]; with ``kept``, of those steps.

    With ``apart``: see `columns_apart`.
    """
    dense = dense_right(product, right, matrices)
    part = dense[:, :, first : first + tiles * width]
    if part.shape[2] != tiles * width:
        full = np.zeros((matrices, product.steps, tiles * width), np.float32)
        full[:, :, : part.shape[2]] = part
        part = full
    tiled = part.reshape(matrices, product.steps, tiles, width).transpose(0, 2, 1, 3)
    if kept is not None:
        tiled = kept.of_rows(tiled)
    packed = aligned_empty(tiled.shape)
    packed[...] = columns_apart(tiled) if apart else tiled
    return packed


def pack_panels(
    program: Program,
    source: Buf,
    lie: Lie,
    steps: int,
    columns: int,
    width: int,
    panels: int,
    first: int = 0,
) -> Buf:
    """Emit a step that lays (steps, columns) matrices out as [matrix][panel][step][column of the panel].

    Args:
        width: columns of a panel.
        first: the first panel's first column; what lies beyond the last column becomes zeros.
    """
    units = -(-steps // PACKED_STEPS)
    size = lie.starts.count * panels * steps * width
    target = Buf.scratch(4 * size)
    starts = program.offsets(lie.starts)
    program.steps.emit(
        panels_kernel(program.settings.target.vector_bits // 32, lie.transposed),
        {
            "source": source,
            "target": target,
            "steps": steps,
            "columns": columns,
            "first_column": first,
            "width": width,
            "panels": panels,
            "unit_steps": PACKED_STEPS,
            "matrix_units": units,
            "starts": starts,
            "source_row": lie.step,
        },
        extent=lie.starts.count * units,
        work=size,
        name="Pack",
    )
    return target


def uniform(number: float, columns: int) -> Floats:
    """The same number for each column; as one element where it is not decided how many there are."""
    return np.full(1 if is_symbolic(columns) else columns, number, np.float32)


def _per_column(program: Program, values: Floats, split: ChannelSplit, lanes: int) -> Buf:
    """The columns of one split, anything beyond the last one."""
    count = split.tiles * split.blocks * lanes
    if is_symbolic(count) and values.size == 1:
        return emit_number(program.steps, float(values[0]), count)
    part = values[split.first * lanes :][:count]
    full = np.zeros(count, np.float32)
    full[: part.size] = part
    return program.constants.put(full)


def gemm_kernel(
    rows: int,
    vectors: int,
    lanes: int,
    transposed_left: bool,
    epilogue: Epilogue,
    unit: PairUnit | None = None,
    *,
    kept: bool = False,
    picks: bool = False,
) -> KernelSource:
    """The product kernel for a tile and an epilogue."""
    tag = epilogue.tag
    form = "t" if transposed_left else "kept_" if kept else "picks_" if picks else "n"
    if unit is not None:
        form = f"{unit.tag}_"
    symbol = f"gemm_{form}{lanes}_{rows}x{vectors}" + (f"_{tag}" if tag else "")
    variant = Variant(rows, vectors, lanes, transposed_left, UNROLL, unit, kept, picks)
    words = functools.partial(WordLayout.of, Arg, **epilogue.operand_counts)
    return generated("mace_cpu.matmul.generate", symbol, variant, epilogue.ops, words=words)
