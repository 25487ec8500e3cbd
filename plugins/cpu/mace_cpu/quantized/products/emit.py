"""Steps that multiply matrices of bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import ceiling, hint, is_symbolic
from mace_core.tensor import DType
from mace_cpu.matmul.lower import matmul_product
from mace_cpu.matmul.lower_packed import TWO_OF_FOUR
from mace_cpu.matmul.product import Product
from mace_cpu.matmul.views import Lie, lie_of
from mace_cpu.quantized.products.arguments import Arg, Variant
from mace_cpu.quantized.products.choose import Panels, choose_panels
from mace_cpu.quantized.products.picks import PickedPanels, choose_picked_panels, pack_picked
from mace_cpu.quantized.products.sparse import SparsePanels, choose_sparse_panels, pack_kept_panels
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.layouts.words import emit_number
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Word, Words
from mace_cpu.shared.parts.views import Offsets
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import EIGHT, QUAD, SIGN, QuadUnit, aligned_bytes, pack_quads, signed_weights
from mace_cpu.shared.tiles.choose import segment_tiles
from mace_cpu.shared.tiles.kept import has_many_zeros

KERNELS = "mace_cpu.quantized.products.kernels"
WORK_PER_MAC = 1 / 32

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Factors:
    """The operands of a product of bytes.

    Attributes:
        left, right: the values, of 8 bits.
        left_zero, right_zero: their zero points, None for 0: one for all of the left operand; one for all of the right
            one, or one per column.
        transposed: the right operand, a known matrix, lies as (columns, steps).
    """

    left: Value
    right: Value
    left_zero: Value | None
    right_zero: Value | None
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Finish:
    """What becomes of the sums.

    Attributes:
        spec: as code.
        target: where the results go.
        bias: int32 that sums start from, per column; an array if it is known.
        scales, float_bias: float32, one for all or one per column, known; or where the scales of whole panels will be.
        words: of the requantization and what follows it.
        epilogue, tensors: of float32 results.
        row_zeros: int32, what is taken off every byte of each row of the left operand; the right one is a known matrix.
    """

    spec: Requantization
    target: Buf
    bias: Value | Array | None = None
    scales: Array | Buf | None = None
    float_bias: Array | None = None
    words: Sequence[Word] = (0, 0, 0)
    epilogue: Epilogue = field(default_factory=Epilogue)
    tensors: Sequence[Buf] = ()
    row_zeros: Buf | None = None


def shape_of(program: Program, factors: Factors) -> Product:
    """The products that there are."""
    right = program.facts.shape(factors.right)
    return matmul_product(program.facts.shape(factors.left), right[::-1] if factors.transposed else right)


def padded_columns(program: Program, product: Product) -> int:
    """Columns of all panels."""
    width = choose_panels(program.settings, product).width
    return ceiling(product.columns, width) * width


def emit_bytes_product(program: Program, factors: Factors, finish: Finish) -> None:
    """Emit the exact sums of products of ``factors``, and what becomes of them."""
    facts, target = program.facts, program.settings.target
    product = shape_of(program, factors)
    is_signed = facts.dtype(factors.left) is DType.INT8
    right_shift = SIGN if facts.dtype(factors.right) is DType.UINT8 else 0
    columns = padded_columns(program, product)
    panels = choose_panels(program.settings, product, is_known=facts.constant_of(factors.right) is not None)
    panels = _sparse(program, product, factors, right_shift, panels) or panels
    kept = panels.kept if isinstance(panels, SparsePanels) else None
    picks = isinstance(panels, PickedPanels)
    unit, width = panels.unit, panels.width
    left_shift = unit.left_offset(is_signed)
    product, lie, source = _left(program, product, factors.left, panels)
    right, sums = _right(program, product, factors, panels, right_shift)
    known = [None if value is None else facts.constant_of(value) for value in (factors.left_zero, factors.right_zero)]
    zero = 0 if known[1] is None else known[1].reshape(-1).astype(np.int32) - right_shift
    if factors.right_zero is None:
        zero = np.array([-right_shift], np.int32)
    is_open = factors.right_zero is not None and known[1] is None
    subtracts = is_open or bool(np.any(zero))
    zeros: Buf | int = 0
    is_known = not is_open and (factors.left_zero is None or known[0] is not None)
    if isinstance(sums, np.ndarray) and is_known and not isinstance(finish.bias, Value):
        left_zero = left_shift + (0 if known[0] is None else int(known[0].reshape(-1)[0]))
        wide = np.broadcast_to(np.asarray(zero, np.int64), (product.columns,))
        starts = product.steps * left_zero * wide - left_zero * sums[..., : product.columns].astype(np.int64)
        if finish.bias is not None:
            starts = starts + np.asarray(finish.bias, np.int64)
        begin = program.constants.put(_padded(starts, columns).astype(np.int32))
        zeros = program.constants.put(_padded(wide, columns).astype(np.int32)) if subtracts else 0
    else:
        zeros = Buf.scratch(4 * columns) if subtracts else 0
        begin = _emit_terms(program, product, factors, finish.bias, sums, zeros, columns, left_shift, right_shift)
    row_sums: Buf | int = _emit_row_sums(program, product, factors.left, lie, source, left_shift) if subtracts else 0
    if finish.row_zeros is not None:
        assert isinstance(sums, np.ndarray)
        subtracts, row_sums = True, finish.row_zeros
        zeros = program.constants.put(_padded(sums.reshape(-1)[: product.columns], columns).astype(np.int32))
    rows = panels.rows(target, product.rows)
    steps = product.steps if kept is None else kept.count
    step_bytes = QUAD * panels.quads_together
    rest = 0 if is_symbolic(steps) else steps % step_bytes
    variant = Variant(
        rows,
        panels.vectors,
        unit,
        is_signed,
        tail=int(rest > 0) if unit.has_tiles else rest,
        subtracts=subtracts,
        partial=is_symbolic(product.columns) or product.columns % width != 0,
        spec=finish.spec,
        **({} if kept is None else {"window": kept.window, "stored": kept.stored, "row_bytes": kept.row_bytes}),
        picks=picks,
    )
    panel_count = ceiling(product.columns, width)
    tiles = ceiling(product.rows, rows)
    segment = rows * segment_tiles(tiles, product.count * panel_count, program.settings.threads)
    segments = ceiling(product.rows, segment)
    matrices = math.prod(product.right)
    panel_bytes = panels.quads(steps) * QUAD * width
    extent = product.count * panel_count * segments
    work = product.macs * WORK_PER_MAC * (1.0 if kept is None else kept.share)
    note = f"int8 {unit.value}" + (f", {TWO_OF_FOUR}" if picks else "" if kept is None else f", {kept.note}")
    scratch_bytes, chunks = 0, None
    if kept is not None:
        scratch_bytes = rows * kept.row_bytes
        chunks = min(hint(extent), 1) if program.settings.threads <= 1 else program.steps.chunks(extent, work)
    program.steps.emit(
        _kernel(variant, width // panels.vectors, finish.epilogue),
        {
            Arg.LEFT: source,
            Arg.RIGHT: right,
            Arg.STARTS: begin,
            Arg.ROW_SUMS: row_sums,
            Arg.COLUMN_ZEROS: zeros,
            Arg.SCALES: per_column(program, finish.scales, columns),
            Arg.FLOAT_BIAS: per_column(program, finish.float_bias, columns),
            Arg.OUTPUT: finish.target,
            Arg.LEFT_OFFSETS: program.offsets(lie.starts.broadcast(product.stack)),
            Arg.LEFT_NUMBERS: program.offsets(Offsets.of_dense(product.left, 1).broadcast(product.stack)),
            Arg.RIGHT_NUMBERS: program.offsets(Offsets.of_dense(product.right, 1).broadcast(product.stack)),
            Arg.RIGHT_MATRIX: panel_count * panel_bytes,
            Arg.START_MATRIX: columns if matrices != 1 else 0,
            Arg.OUT_MATRIX: product.rows * product.columns,
            Arg.UNITS: panel_count * segments,
            Arg.SEGMENTS: segments,
            Arg.SEGMENT: segment,
            Arg.ROWS: product.rows,
            Arg.COLUMNS: product.columns,
            Arg.QUADS: panels.quads(steps) if is_symbolic(steps) else (steps - rest) // QUAD,
            Arg.REST: rest,
            Arg.PANEL_BYTES: panel_bytes,
            Arg.LEFT_STRIDE: lie.step,
            Arg.SCRATCH: 0 if chunks is None else Buf.scratch(scratch_bytes * chunks),
            Arg.SCRATCH_BYTES: scratch_bytes,
            Arg.PANELS: panel_count,
            Arg.GATHERS: 0 if kept is None else kept.gathers,
            Arg.INDICES: 0 if kept is None else program.constants.put(kept.indices),
            Arg.PLACES: 0 if kept is None else program.constants.put(kept.places),
            "requantization": list(finish.words),
            "channels": [per_column(program, channel, columns) for channel in finish.epilogue.channels],
            "tensors": list(finish.tensors),
        },
        extent=extent,
        work=work,
        chunks=chunks,
        note=note,
    )


def _sparse(
    program: Program, product: Product, factors: Factors, right_shift: int, dense: Panels
) -> SparsePanels | PickedPanels | None:
    """Panels of a known right operand that leave out its zeros, where it has no zero points and that is faster."""
    known, zero = program.facts.constant_of(factors.right), program.facts.constant_of(factors.right_zero)
    if known is None or (factors.right_zero is not None and zero is None):
        return None
    if np.any(np.zeros(1, np.int32) - right_shift if zero is None else zero.astype(np.int32) - right_shift):
        return None
    if not has_many_zeros(known, right_shift):
        return None
    matrices = _signed_matrices(product, factors, known)
    target = program.settings.target
    return choose_sparse_panels(target, dense, product, matrices) or choose_picked_panels(
        target, dense, product, matrices
    )


def _signed_matrices(product: Product, factors: Factors, known: Array) -> npt.NDArray[np.int8]:
    """A known right operand as signed bytes (matrices, steps, columns)."""
    count = math.prod(product.right)
    if factors.transposed:
        return signed_weights(known).T.reshape(count, product.steps, product.columns)
    return signed_weights(known.reshape(count, product.steps, product.columns))


def _kernel(variant: Variant, lanes: int, epilogue: Epilogue) -> Any:
    symbol = f"bytes_{lanes}_{variant.tag}" + (f"_{epilogue.tag}" if epilogue.tag else "")
    lists = {"requantization": variant.spec.words, **epilogue.operand_counts}
    words = functools.partial(WordLayout.of, Arg, **lists)
    return generated("mace_cpu.quantized.products.generate", symbol, variant, lanes, epilogue.ops, words=words)


def _left(program: Program, product: Product, value: Value, panels: Panels) -> tuple[Product, Lie, Buf]:
    """The left operand, read where it lies if its rows are contiguous; filled up where their length is not known."""
    if not is_symbolic(product.steps) and program.values.is_shown(value) and len(program.facts.shape(value)) > 1:
        strided = program.values.strided(value)
        rows = strided.reshaped((product.rows, product.steps)) if product.count == 1 else None
        lie = lie_of(strided if rows is None else rows)
        if lie is not None and not lie.transposed:
            stack, count = lie.starts.shape, lie.starts.count
            if product.count == 1 and count != 1:
                # one right matrix for a stack that does not lie as rows of a single matrix
                product = replace(product, rows=product.rows // count, stack=stack, left=stack)
            return product, lie, strided.buf
    source, step = program.values.read(value), product.steps
    if is_symbolic(step):
        step = panels.quads(product.steps) * QUAD
        every = math.prod(product.left) * product.rows
        padded = Buf.scratch(every * step)
        words: Words = {"source": source, "target": padded, "width": product.steps, "padded": step}
        program.steps.emit(numba_source(KERNELS, "padded_bytes"), words, extent=every, work=every * step, name="Pad")
        source = padded
    return product, Lie(Offsets.of_dense(product.left, product.rows * step), step), source


def _right(program: Program, product: Product, factors: Factors, panels: Panels, shift: int) -> tuple[Buf, Array | Buf]:
    """The packed right operand and the sums of its columns (matrices, columns): known, or computed by a step."""
    known, width = program.facts.constant_of(factors.right), panels.width
    if known is not None:
        signed = _signed_matrices(product, factors, known)
        sums: Array = signed.sum(axis=1, dtype=np.int32)
        form = panels.quads_together, type(panels).__name__
        way = ("quads", product.steps, product.columns, factors.transposed, width, *form, shift)
        return program.constants.packed(known, way, lambda: _packed(signed, panels)), sums
    count, matrices_count = ceiling(product.columns, width), math.prod(product.right)
    quads = panels.quads(product.steps)
    lie = None
    if program.values.is_shown(factors.right) and len(program.facts.shape(factors.right)) > 1:
        strided = program.values.strided(factors.right)
        lie, source = lie_of(strided), strided.buf
    if lie is None:
        source = program.values.read(factors.right)
        lie = Lie(Offsets.of_dense(product.right, product.steps * product.columns), product.columns)
    target = Buf.scratch(matrices_count * count * quads * QUAD * width)
    found = Buf.scratch(4 * matrices_count * count * width)
    program.steps.emit(
        numba_source(KERNELS, "pack_right", dtype=program.facts.dtype(factors.right).label),
        {
            "source": source,
            "target": target,
            "sums": found,
            "starts": program.offsets(lie.starts),
            "steps": product.steps,
            "columns": product.columns,
            "panels": count,
            "width": width,
            "quads": quads,
            "step_stride": 1 if lie.transposed else lie.step,
            "column_stride": lie.step if lie.transposed else 1,
            "shift": shift,
        },
        extent=matrices_count * count,
        work=matrices_count * product.steps * product.columns,
        name="Pack",
    )
    return target, found


def _packed(signed: npt.NDArray[np.int8], panels: Panels) -> Array:
    if isinstance(panels, SparsePanels):
        packed = pack_kept_panels(signed, panels.width, panels.kept)
    elif isinstance(panels, PickedPanels):
        packed = pack_picked(signed, panels.width)
    else:
        # eights are of two quads
        size = EIGHT if panels.unit is QuadUnit.MMLA else QUAD
        packed = pack_quads(signed, panels.width, panels.quads_together * QUAD // size, size)
    missing = -packed.nbytes % 4
    if not missing:
        return packed
    whole = aligned_bytes((packed.nbytes + missing,))
    whole[: packed.nbytes] = packed.reshape(-1)
    return whole


def _emit_row_sums(program: Program, product: Product, value: Value, lie: Lie, source: Buf, shift: int) -> Buf:
    rows = math.prod(product.left) * product.rows
    target = Buf.scratch(4 * rows)
    program.steps.emit(
        numba_source(KERNELS, "row_sums", dtype=program.facts.dtype(value).label),
        {
            "source": source,
            "target": target,
            "starts": program.offsets(lie.starts),
            "rows": product.rows,
            "row_stride": lie.step,
            "steps": product.steps,
            "shift": shift,
        },
        extent=rows,
        work=rows * product.steps * 0.125,
        name="RowSums",
    )
    return target


def _emit_terms(
    program: Program,
    product: Product,
    factors: Factors,
    bias: Value | Array | None,
    sums: Array | Buf,
    zeros: Buf | int,
    columns: int,
    left_shift: int,
    right_shift: int,
) -> Buf:
    """What sums start from, computed at each run."""
    matrices = math.prod(product.right)
    target = Buf.scratch(4 * matrices * columns)
    read = program.values.read
    if isinstance(bias, np.ndarray):
        bias_buf: Buf | int = program.constants.put(np.ascontiguousarray(bias, np.int32))
    else:
        bias_buf = 0 if bias is None else read(bias)
    if isinstance(sums, np.ndarray):
        sums = program.constants.put(_padded(sums, columns))
    left_zero, right_zero = factors.left_zero, factors.right_zero
    left, right = (program.facts.dtype(value).label for value in (factors.left, factors.right))
    program.steps.emit(
        numba_source(KERNELS, "terms", left=left, right=right),
        {
            "sums": sums,
            "bias": bias_buf,
            "left_zero": 0 if left_zero is None else read(left_zero),
            "right_zeros": 0 if right_zero is None else read(right_zero),
            "starts": target,
            "zeros": zeros,
            "count": 1 if right_zero is None else program.facts.size(right_zero),
            "columns": product.columns,
            "padded": columns,
            "steps": product.steps,
            "left_shift": left_shift,
            "right_shift": right_shift,
        },
        extent=matrices,
        work=matrices * columns,
        name="ZeroPoints",
    )
    return target


def per_column(program: Program, numbers: Array | Buf | None, columns: int) -> Buf | int:
    """Numbers for each column of whole panels."""
    if numbers is None:
        return 0
    if isinstance(numbers, Buf):
        return numbers
    if numbers.size == 1 and is_symbolic(columns):
        return emit_number(program.steps, float(numbers.reshape(-1)[0]), columns)
    wide = np.broadcast_to(numbers.reshape(-1), (columns,)) if numbers.size == 1 else _padded(numbers, columns)
    return program.constants.put(np.ascontiguousarray(wide, np.float32))


def _padded(numbers: Array, columns: int) -> Array:
    """The last axis filled up with zeros."""
    missing = columns - numbers.shape[-1]
    return np.ascontiguousarray(np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, missing)]))
