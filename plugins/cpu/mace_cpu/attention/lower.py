"""Attention: softmax(factor * Q K^T + mask) V in one step."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_core.operators import broadcast
from mace_core.symbolic import ceiling, hint, is_same, is_symbolic
from mace_cpu.attention.arguments import Arg, RowArg, Split, Variant, layout, split_word
from mace_cpu.matmul.lower_packed import pack_panels
from mace_cpu.matmul.views import Lie, lie_of
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.parts.views import Offsets, Strided
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.tiles.choose import ROW_CHOICES, ChannelSplit, most_rows, segment_tiles, split_channels

GENERATOR = "mace_cpu.attention.generate"
SEGMENT_TILES = 4
"""Tiles of rows that one unit takes through the same keys."""

MOST_TILE_ROWS = 12
EXPONENTIAL_WORK = 2.0
MAC_WORK = 1 / 8


@dataclass(frozen=True, slots=True)
class Matrices:
    """A stack of matrices of this shape and how they lie."""

    buf: Buf
    lie: Lie
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operands:
    """What an attention is computed from; the stacks of matrices broadcast.

    Attributes:
        query: (..., queries, depth), rows contiguous.
        key: (..., depth, keys).
        value: (..., keys, columns).
        mask: added to the scores, broadcast but for the last axis, which is contiguous.
        scale: factor of the scores before that.
        empty: rows that see no key give zeros instead of NaN.
    """

    query: Matrices
    key: Matrices
    value: Matrices
    mask: Strided | None
    scale: float
    empty: bool = False


def matrices_of(program: Program, value: Value, *, rows_contiguous: bool) -> Matrices:
    """The matrices of an operand where they lie, or copied where they cannot be read so."""
    strided = matrices_strided(program, value, rows_contiguous=rows_contiguous)
    lie = lie_of(strided)
    assert lie is not None
    return Matrices(strided.buf, lie, strided.shape)


def matrices_strided(program: Program, value: Value, *, rows_contiguous: bool = True) -> Strided:
    """Where the elements of such matrices lie."""
    strided = program.values.strided(value)
    lie = lie_of(strided)
    if lie is None or (rows_contiguous and lie.transposed):
        return dense(program, value)
    return strided


def dense(program: Program, value: Value) -> Strided:
    program.values.read(value)
    return program.values.strided(value)


def emit_attention(
    program: Program, operands: Operands, target: Value, order: Sequence[int], shape: Sequence[int] | None = None
) -> None:
    """Emit the steps of an attention.

    Args:
        target: where the result goes, as a dense tensor of ``shape`` (by default its own).
        order: which axis of the result each axis of that tensor is.
    """
    query, mask = operands.query, operands.mask
    stack = broadcast(query.shape[:-2], operands.key.shape[:-2], operands.value.shape[:-2])
    rows, depth = query.shape[-2:]
    if is_same(rows, 1) and operands.key.lie.transposed and not operands.value.lie.transposed:
        _emit_single_query(program, operands, stack, target, order, shape)
        return
    count, columns = operands.key.shape[-1], operands.value.shape[-1]
    products = math.prod(stack)
    tiling = _tiling(program.settings.target, rows, depth, count, columns)
    lanes = _lanes(program.settings.target)
    words: Words = {
        **_packed(program, "keys", operands.key, tiling.keys, stack),
        **_packed(program, "values", operands.value, tiling.values, stack),
    }
    in_segment = segment_tiles(-(-rows // tiling.rows), products, program.settings.threads)
    segment = min(in_segment, SEGMENT_TILES) * tiling.rows
    units = -(-rows // segment)
    score_step = lanes * sum(split.tiles * split.blocks for split in tiling.keys)
    scratch = -(-segment * (score_step + 1) // 16) * 16
    work = products * rows * count * ((depth + columns) * MAC_WORK + EXPONENTIAL_WORK)
    chunks = program.steps.chunks(products * units, work)
    output_starts, output_step = _target_lie(program.facts.shape(target) if shape is None else shape, order)
    words |= {
        Arg.QUERY: query.buf,
        Arg.OUTPUT: program.values.write(target),
        Arg.SCRATCH: Buf.scratch(4 * scratch * chunks),
        Arg.QUERY_STARTS: program.offsets(query.lie.starts.broadcast(stack)),
        Arg.OUTPUT_STARTS: program.offsets(output_starts),
        Arg.UNITS: units,
        Arg.SEGMENT: segment,
        Arg.ROWS: rows,
        Arg.DEPTH: depth,
        Arg.KEYS: count,
        Arg.COLUMNS: columns,
        Arg.QUERY_STEP: query.lie.step,
        Arg.OUTPUT_STEP: output_step,
        Arg.SCORE_STEP: score_step,
        Arg.SCRATCH_STEP: scratch,
        Arg.SCALE: float(operands.scale),
        **_mask_words(program, mask, stack),
    }
    kernel = attention_kernel(
        tiling.rows,
        tuple(split.blocks for split in tiling.keys),
        tuple(split.blocks for split in tiling.values),
        mask is not None,
        operands.empty,
    )
    program.steps.emit(kernel, words, extent=products * units, work=work, chunks=chunks)


def _emit_single_query(
    program: Program,
    operands: Operands,
    stack: Sequence[int],
    target: Value,
    order: Sequence[int],
    shape: Sequence[int] | None,
) -> None:
    """As `emit_attention`, for one query for each head: keys and values are read where they lie."""
    query, key, value, mask = operands.query, operands.key, operands.value, operands.mask
    depth, (count, columns) = query.shape[-1], value.shape[-2:]
    products, lanes = math.prod(stack), _lanes(program.settings.target)
    wide = max(wide for wide in (4, 2, 1) if wide == 1 or wide * lanes <= hint(columns))
    scratch = ceiling(count, 16) * 16
    work = products * count * ((depth + columns) * MAC_WORK + EXPONENTIAL_WORK)
    chunks = program.steps.chunks(products, work)
    starts, _ = _target_lie(program.facts.shape(target) if shape is None else shape, order)
    mask_words = _mask_words(program, mask, stack)
    words: Words = {
        RowArg.QUERY: query.buf,
        RowArg.KEY: key.buf,
        RowArg.VALUE: value.buf,
        RowArg.OUTPUT: program.values.write(target),
        RowArg.MASK: mask_words[Arg.MASK],
        RowArg.SCRATCH: Buf.scratch(4 * scratch * chunks),
        RowArg.QUERY_STARTS: program.offsets(query.lie.starts.broadcast(stack)),
        RowArg.KEY_STARTS: program.offsets(key.lie.starts.broadcast(stack)),
        RowArg.VALUE_STARTS: program.offsets(value.lie.starts.broadcast(stack)),
        RowArg.OUTPUT_STARTS: program.offsets(starts),
        RowArg.MASK_STARTS: mask_words[Arg.MASK_STARTS],
        RowArg.DEPTH: depth,
        RowArg.KEYS: count,
        RowArg.COLUMNS: columns,
        RowArg.KEY_STEP: key.lie.step,
        RowArg.VALUE_STEP: value.lie.step,
        RowArg.SCRATCH_STEP: scratch,
        RowArg.SCALE: float(operands.scale),
    }
    kernel = single_query_kernel(wide, mask is not None, operands.empty)
    program.steps.emit(kernel, words, extent=products, work=work, chunks=chunks)


def _packed(
    program: Program, name: str, operand: Matrices, splits: Sequence[ChannelSplit], stack: Sequence[int]
) -> Words:
    """The words of the "keys" or "values": panels of each split, packed by steps of their own."""
    *above, steps, across = operand.shape
    lanes = _lanes(program.settings.target)
    words: Words = {}
    for index, split in enumerate(splits):
        width, first = split.blocks * lanes, split.first * lanes
        panels = pack_panels(program, operand.buf, operand.lie, steps, across, width, split.tiles, first)
        starts = Offsets.of_dense(above, split.tiles * steps * width).broadcast(stack)
        values: dict[Split, int | Buf] = {
            Split.AT: panels,
            Split.STARTS: program.offsets(starts),
            Split.PANELS: split.tiles,
            Split.FIRST: first,
            Split.PANEL_STEP: steps * width,
            Split.ROW_STEP: width,
        }
        words |= {split_word(name, index, word): value for word, value in values.items()}
    return words


def _mask_words(program: Program, mask: Strided | None, stack: Sequence[int]) -> Words:
    if mask is None:
        return {Arg.MASK: 0, Arg.MASK_STARTS: 0, Arg.MASK_STEP: 0}
    starts, step = _mask_lie(mask, stack)
    return {Arg.MASK: mask.buf, Arg.MASK_STARTS: program.offsets(starts), Arg.MASK_STEP: step}


def _lanes(target: Target) -> int:
    return target.vector_bits // 32


def _target_lie(shape: Sequence[int], order: Sequence[int]) -> tuple[Offsets, int]:
    """Where the matrices of the result start in a dense target that has its axes in ``order``, and their rows' step."""
    rank = len(order)
    own, strides = [0] * rank, [0] * rank
    for position, axis in enumerate(order):
        own[axis], strides[axis] = shape[position], math.prod(shape[position + 1 :])
    return Offsets(0, tuple(own[:-2]), tuple(strides[:-2])), strides[-2]


def _mask_lie(mask: Strided, stack: Sequence[int]) -> tuple[Offsets, int]:
    """Where the rows start that are added to the scores of each product, and the step to the next."""
    missing = len(stack) + 2 - len(mask.shape)
    shape, strides = (1,) * missing + mask.shape, (0,) * missing + mask.strides
    steps = [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]
    return Offsets(mask.offset, tuple(stack), tuple(steps[:-2])), steps[-2]


@dataclass(frozen=True, slots=True)
class _Tiling:
    rows: int
    keys: tuple[ChannelSplit, ...]
    values: tuple[ChannelSplit, ...]


def _tiling(target: Target, rows: int, depth: int, keys: int, columns: int) -> _Tiling:
    """The cheapest tiles for the shapes at hand, which serve others too."""
    best = _choose(target, hint(rows), hint(depth), hint(keys), hint(columns))
    if not any(is_symbolic(size) for size in (rows, keys, columns)):
        return best
    lanes = _lanes(target)
    tall = best.rows if rows >= best.rows else 1  # a tile is moved back where rows are missing
    return _Tiling(
        tall,
        tuple(split_channels(ceiling(keys, lanes), best.keys[0].blocks)),
        tuple(split_channels(ceiling(columns, lanes), best.values[0].blocks)),
    )


@functools.lru_cache(maxsize=256)
def _choose(target: Target, rows: int, depth: int, keys: int, columns: int) -> _Tiling:
    """The cheapest tiles: both products have the same rows at a time."""
    lanes = _lanes(target)
    widths = (4, 3, 2) if target.vector_bits >= 512 or target.architecture == "aarch64" else (2, 1)

    def step(tall: int, splits: Sequence[ChannelSplit]) -> float:
        return sum(s.tiles * (max(tall * s.blocks, tall + s.blocks, 8) + 0.5) for s in splits)

    best: tuple[float, _Tiling] | None = None
    for for_keys, for_values in itertools.product(widths, repeat=2):
        of_keys = split_channels(-(-keys // lanes), for_keys)
        of_values = split_channels(-(-columns // lanes), for_values)
        blocks = max(split.blocks for split in (*of_keys, *of_values))
        most = min(most_rows(target, lanes, blocks), MOST_TILE_ROWS, rows)
        for tall in (choice for choice in ROW_CHOICES if choice <= most):
            cost = -(-rows // tall) * (depth * step(tall, of_keys) + keys * step(tall, of_values))
            if best is None or cost < best[0]:
                best = cost, _Tiling(tall, tuple(of_keys), tuple(of_values))
    assert best is not None
    return best[1]


def attention_kernel(
    rows: int, keys: tuple[int, ...], values: tuple[int, ...], mask: bool, empty: bool
) -> KernelSource:
    """The kernel for tiles of so many rows and of these vectors, split by split."""
    widths = "_".join("".join(map(str, splits)) for splits in (keys, values))
    symbol = f"attention_{rows}x{widths}" + ("_mask" if mask else "") + ("_empty" if empty else "")
    variant = Variant(rows, keys, values, mask, empty)
    return generated(GENERATOR, symbol, variant, words=lambda: layout(len(keys), len(values)))


def single_query_kernel(wide: int, mask: bool, empty: bool) -> KernelSource:
    """The kernel for one query for each head, so many vectors of a result at a time."""
    symbol = f"attention_single_{wide}" + ("_mask" if mask else "") + ("_empty" if empty else "")
    generator = "mace_cpu.attention.generate_rows"
    return generated(generator, symbol, wide, mask, empty, words=lambda: WordLayout.of(RowArg))
