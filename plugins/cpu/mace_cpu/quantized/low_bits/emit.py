"""Steps that multiply with packed weights."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import ceiling, hint
from mace_cpu.quantized.low_bits.arguments import VECTORS, RoundedArg, RowArg, RowsArg, RowsVariant
from mace_cpu.quantized.low_bits.weights import Weights
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QuadUnit
from mace_cpu.shared.tiles.choose import fitting_rows, has_many_registers, most_rows

KERNELS = "mace_cpu.quantized.low_bits.kernels"
UNROLL = 4

PIECE_STEPS = 128
"""So many steps of a panel are unpacked at a time: they fit into the first level cache."""

SEGMENT_ROWS = 144
"""Rows that a panel is unpacked for, at most: they, and their sums, fit into the second level cache."""

UNPACKING_ROWS = 6
"""Unpacking a panel takes about as long as multiplying it with so many rows."""

FEW_ROWS = 16
SMALLEST_VECTOR_BITS = 128

SCALAR_WORK_PER_MAC = 1 / 8

MOST_ROUNDED_ROWS = 6
"""Rows of a tile of dot products whose sums stay in 32 registers."""


def emit_low_bits(
    program: Program, weights: Weights, x: Value, result: Value, bias: Value | None, *, rounded: bool = False
) -> None:
    """Emit ``result = x @ weights + bias`` in float32, with what is done to the result fused.

    Args:
        x: float32 (..., steps).
        result: float32 (..., columns).
        bias: float32 (columns,), known or not; None for none.
        rounded: ``x`` is rounded to 8 bits in blocks.
    """
    if not program.facts.size(result):
        program.values.write(result)
        return
    lanes = max(program.settings.target.vector_bits // 32, 4)
    ops: list[EpilogueOp] = []
    channels: list[Buf] = []
    if bias is not None:
        ops.append(EpilogueOp("add", "channel"))
        channels.append(_per_column(program, bias, weights, lanes))
    then, final = Epilogue(), result
    if len(program.facts.shape(result)) > 1:
        then, final = match_epilogue(program, result, channel_axis=-1)
    channels += [_padded(program, channel, weights, lanes) for channel in then.channels]
    epilogue = Epilogue((*ops, *then.ops))
    rows = program.facts.size(x) // weights.steps
    left, width = program.values.read(x), weights.steps
    is_rounded = rounded and not weights.form.kind
    if not is_rounded or weights.order is not None or weights.factors is not None:
        left, width = _laid_out(program, weights, left, rows), weights.places
    is_whole = is_rounded and _multiplies_bytes(program, rows)
    if is_rounded and not is_whole:
        left = _emit_rounded_floats(program, weights, left, rows, width)
    operands: Words = {"channels": channels, "tensors": [program.values.read(value) for value in then.tensors]}
    target = program.values.write(final)
    if is_whole:
        _emit_rounded(program, weights, lanes, left, rows, width, target, epilogue, operands)
    elif rows == 1:
        _emit_row(program, weights, lanes, left, target, epilogue, operands)
    else:
        _emit_rows(program, weights, lanes, left, rows, target, epilogue, operands)


def _multiplies_bytes(program: Program, rows: int) -> bool:
    """Whether rounded rows are multiplied as bytes: that is faster, but for many rows where bytes must be widened."""
    target = program.settings.target
    unit = QuadUnit.of(target)
    if unit in (QuadUnit.LANES, QuadUnit.LONG):
        return False
    return unit is not QuadUnit.WORDS or target.vector_bits == SMALLEST_VECTOR_BITS or hint(rows) <= FEW_ROWS


def _emit_rounded_floats(program: Program, weights: Weights, left: Buf, rows: int, width: int) -> Buf:
    """The rows as `_emit_rounded` rounds them, as floats."""
    target = Buf.scratch(4 * rows * weights.places)
    program.steps.emit(
        numba_source(KERNELS, "rounded_floats"),
        {
            "source": left,
            "target": target,
            "width": width,
            "padded": weights.places,
            "block": weights.block,
            "blocks": weights.blocks,
        },
        extent=rows * weights.blocks,
        work=rows * weights.steps,
        name="Round",
    )
    return target


def _laid_out(program: Program, weights: Weights, left: Buf, rows: int) -> Buf:
    """The rows in the order in which the steps of the weights lie, zeros where there is none."""
    if weights.order is None and weights.factors is None:
        return (
            left
            if weights.places == weights.steps
            else _emit_padded(program, left, rows, weights.steps, weights.places)
        )
    order = np.full(weights.places, -1, np.int32)
    order[: weights.steps] = np.arange(weights.steps)
    target = Buf.scratch(4 * rows * weights.places)
    program.steps.emit(
        numba_source(KERNELS, "ordered_rows"),
        {
            "source": left,
            "target": target,
            "order": program.constants.put(order if weights.order is None else weights.order),
            "factors": 0 if weights.factors is None else program.constants.put(weights.factors),
            "width": weights.steps,
            "places": weights.places,
        },
        extent=rows,
        work=rows * weights.places,
        name="Order",
    )
    return target


def _emit_row(
    program: Program, weights: Weights, lanes: int, left: Buf, target: Buf, epilogue: Epilogue, operands: Words
) -> None:
    form = weights.form
    codes, scales, zeros = weights.packed(program.constants, lanes)
    symbol = f"low_bits_row_{form.tag}_{lanes}" + (f"_{epilogue.tag}" if epilogue.tag else "")
    layout = functools.partial(WordLayout.of, RowArg, **epilogue.operand_counts)
    kernel = generated("mace_cpu.quantized.low_bits.generate_row", symbol, form, lanes, epilogue.ops, words=layout)
    program.steps.emit(
        kernel,
        {
            RowArg.LEFT: left,
            RowArg.CODES: codes,
            RowArg.SCALES: scales,
            RowArg.ZEROS: 0 if zeros is None else zeros,
            RowArg.OUTPUT: target,
            RowArg.GROUPS: weights.groups,
            RowArg.BLOCK: weights.block // form.group,
            RowArg.BLOCKS: weights.blocks,
            RowArg.COLUMNS: weights.columns,
            **operands,
        },
        extent=_panels(weights, lanes),
        work=weights.steps * weights.columns * SCALAR_WORK_PER_MAC,
        note=_note(weights),
    )


def _emit_rows(
    program: Program,
    weights: Weights,
    lanes: int,
    left: Buf,
    rows: int,
    target: Buf,
    epilogue: Epilogue,
    operands: Words,
) -> None:
    form, settings = weights.form, program.settings
    codes, scales, zeros = weights.packed(program.constants, lanes)
    vectors = VECTORS if has_many_registers(settings.target) else VECTORS // 2
    tile_rows = fitting_rows(rows, most_rows(settings.target, lanes, vectors), vectors)
    variant = RowsVariant(form, lanes, tile_rows, vectors, UNROLL)
    symbol = f"low_bits_{form.tag}_{lanes}_{tile_rows}x{vectors}" + (f"_{epilogue.tag}" if epilogue.tag else "")
    layout = functools.partial(WordLayout.of, RowsArg, **epilogue.operand_counts)
    kernel = generated("mace_cpu.quantized.low_bits.generate_rows", symbol, variant, epilogue.ops, words=layout)
    panels, width = _panels(weights, lanes), VECTORS * lanes
    piece = max(min(PIECE_STEPS // form.group, weights.groups), 1)
    segment = tile_rows * _segment_tiles(ceiling(rows, tile_rows), panels, tile_rows, settings.threads)
    scratch = piece * form.group * width + segment * width
    extent = panels * ceiling(rows, segment)
    work = rows * weights.steps * weights.columns * SCALAR_WORK_PER_MAC
    chunks = program.steps.chunks(extent, work)
    program.steps.emit(
        kernel,
        {
            RowsArg.LEFT: left,
            RowsArg.CODES: codes,
            RowsArg.SCALES: scales,
            RowsArg.ZEROS: 0 if zeros is None else zeros,
            RowsArg.OUTPUT: target,
            RowsArg.SCRATCH: Buf.scratch(4 * scratch * chunks),
            RowsArg.SCRATCH_STEP: scratch,
            RowsArg.GROUPS: weights.groups,
            RowsArg.BLOCK: weights.block // form.group,
            RowsArg.BLOCKS: weights.blocks,
            RowsArg.PIECE: piece,
            RowsArg.ROWS: rows,
            RowsArg.COLUMNS: weights.columns,
            RowsArg.LEFT_STRIDE: weights.places,
            RowsArg.SEGMENT: segment,
            RowsArg.PANELS: panels,
            **operands,
        },
        extent=extent,
        work=work,
        chunks=chunks,
        note=_note(weights),
    )


def _emit_rounded(
    program: Program,
    weights: Weights,
    lanes: int,
    left: Buf,
    rows: int,
    width: int,
    target: Buf,
    epilogue: Epilogue,
    operands: Words,
) -> None:
    form, settings, stride = weights.form, program.settings, weights.places
    codes, scales, zeros = weights.packed(program.constants, lanes)
    blocks = rows * weights.blocks
    whole, own_scales, own_sums = Buf.scratch(rows * stride), Buf.scratch(4 * blocks), Buf.scratch(4 * blocks)
    program.steps.emit(
        numba_source(KERNELS, "rounded_rows"),
        {
            "source": left,
            "target": whole,
            "scales": own_scales,
            "sums": own_sums,
            "width": width,
            "padded": stride,
            "block": weights.block,
            "blocks": weights.blocks,
        },
        extent=blocks,
        work=rows * weights.steps,
        name="Round",
    )
    tile_rows = fitting_rows(rows, MOST_ROUNDED_ROWS if has_many_registers(settings.target) else 2, VECTORS)
    variant = RowsVariant(form, lanes, tile_rows, VECTORS, 1)
    symbol = f"low_bits_rounded_{form.tag}_{lanes}_{tile_rows}" + (f"_{epilogue.tag}" if epilogue.tag else "")
    layout = functools.partial(WordLayout.of, RoundedArg, **epilogue.operand_counts)
    kernel = generated("mace_cpu.quantized.low_bits.generate_rounded", symbol, variant, epilogue.ops, words=layout)
    panels = _panels(weights, lanes)
    segment = tile_rows * _segment_tiles(ceiling(rows, tile_rows), panels, tile_rows, settings.threads)
    program.steps.emit(
        kernel,
        {
            RoundedArg.LEFT: whole,
            RoundedArg.LEFT_SCALES: own_scales,
            RoundedArg.LEFT_SUMS: own_sums,
            RoundedArg.CODES: codes,
            RoundedArg.SCALES: scales,
            RoundedArg.ZEROS: 0 if zeros is None else zeros,
            RoundedArg.OUTPUT: target,
            RoundedArg.GROUPS: weights.groups,
            RoundedArg.BLOCK: weights.block // form.group,
            RoundedArg.BLOCKS: weights.blocks,
            RoundedArg.ROWS: rows,
            RoundedArg.COLUMNS: weights.columns,
            RoundedArg.LEFT_STRIDE: stride,
            RoundedArg.SEGMENT: segment,
            RoundedArg.PANELS: panels,
            **operands,
        },
        extent=panels * ceiling(rows, segment),
        work=rows * weights.steps * weights.columns * SCALAR_WORK_PER_MAC * 0.5,
        note=f"{_note(weights)}, rows of 8 bits",
    )


def _segment_tiles(tiles: int, panels: int, tile_rows: int, threads: int) -> int:
    """Tiles of rows per unit of work, so that threads get equal shares and a panel is rarely unpacked."""
    count = hint(tiles)
    longest = min(count, max(SEGMENT_ROWS // tile_rows, 1))
    unpacking = UNPACKING_ROWS / tile_rows

    def time(length: int) -> float:
        segments = -(-count // length)
        return -(-segments * panels // threads) * (count / segments + unpacking)

    return min(range(1, longest + 1), key=time)


def _panels(weights: Weights, lanes: int) -> int:
    return -(-weights.columns // (VECTORS * lanes))


def _note(weights: Weights) -> str:
    kind = weights.form.kind or f"{weights.form.bits}-bit"
    return f"{kind} weights"


def _per_column(program: Program, value: Value, weights: Weights, lanes: int) -> Buf:
    """A number for each column, with something behind the last one that may be read."""
    known = program.facts.constant_of(value)
    if known is not None:
        return _padded(program, known.reshape(-1).astype(np.float32), weights, lanes)
    width = _panels(weights, lanes) * VECTORS * lanes
    return _emit_padded(program, program.values.read(value), 1, weights.columns, width)


def _padded(program: Program, numbers: npt.NDArray[np.float32], weights: Weights, lanes: int) -> Buf:
    full = np.zeros(_panels(weights, lanes) * VECTORS * lanes, np.float32)
    full[: weights.columns] = numbers
    return program.constants.put(full)


def _emit_padded(program: Program, source: Buf, rows: int, width: int, padded: int) -> Buf:
    target = Buf.scratch(4 * rows * padded)
    program.steps.emit(
        numba_source(KERNELS, "padded_rows"),
        {"source": source, "target": target, "width": width, "padded": padded},
        extent=rows,
        work=rows * padded,
        name="Pad",
    )
    return target
