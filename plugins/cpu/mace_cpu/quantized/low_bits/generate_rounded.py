"""Rows rounded to 8 bits times packed weights: dot products of bytes in each block, scaled in float32."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.low_bits.arguments import QUAD, VECTORS, RoundedArg, RowsVariant
from mace_cpu.quantized.low_bits.generate_unpacking import zero_points
from mace_cpu.shared.codegen.body import I8, Body, constant
from mace_cpu.shared.codegen.quads import QuadDot, load_quad
from mace_cpu.shared.codegen.vector_basic import constant as number
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.operations import EpilogueOp
from mace_cpu.shared.quads import QuadUnit

POINTERS = (
    RoundedArg.LEFT,
    RoundedArg.LEFT_SCALES,
    RoundedArg.LEFT_SUMS,
    RoundedArg.CODES,
    RoundedArg.SCALES,
    RoundedArg.ZEROS,
    RoundedArg.OUTPUT,
)


def build(symbol: str, variant: RowsVariant, ops: tuple[EpilogueOp, ...], target: Target) -> str:
    """IR of the kernel; arguments are `RoundedArg`, then epilogue channels, then epilogue tensors."""
    return _Rounded(symbol, variant, ops, target).emit()


class _Rounded:
    def __init__(self, symbol: str, variant: RowsVariant, ops: tuple[EpilogueOp, ...], target: Target) -> None:
        self.variant, self.form = variant, variant.form
        self.body = body = Body(symbol, variant.lanes, target.features)
        self.words = {arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in RoundedArg}
        self.epilogue = EpilogueCode(body, len(RoundedArg), ops)
        # codes are the left operand, rows the right, signed one; those of few bits are positive as signed bytes, too
        unit = QuadUnit.of(target)
        is_signed = self.form.bits < 8 and unit.left_offset(False) != 0
        self.dot = QuadDot(body, unit, left_is_signed=is_signed)
        self.middle = self.form.middle + unit.left_offset(is_signed)
        self.width = VECTORS * body.lanes
        self.sums = [[body.variable(self.dot.vector) for _ in range(VECTORS)] for _ in range(variant.rows)]
        self.totals = body.memory(ir.ArrayType(body.vector, VECTORS * variant.rows))

    def emit(self) -> str:
        body, words, rows = self.body, self.words, self.variant.rows
        with body.loop(body.begin, body.end) as unit:
            segment, panel = body.divide(unit, words[RoundedArg.PANELS])
            start = body.mul(segment, words[RoundedArg.SEGMENT])
            stop = body.minimum(body.add(start, words[RoundedArg.SEGMENT]), words[RoundedArg.ROWS])
            size = body.mul(words[RoundedArg.GROUPS], self.width)
            codes = body.floats(words[RoundedArg.CODES], body.mul(panel, size))
            scales = body.mul(panel, body.mul(words[RoundedArg.BLOCKS], self.width))
            with body.loop(start, stop, rows) as wanted:
                # the last tile is moved back, so that no tile lacks rows; some are computed twice
                row = body.minimum(wanted, body.sub(words[RoundedArg.ROWS], constant(rows)))
                for i in range(rows * VECTORS):
                    body.store(body.zero(), self._total(i))
                with body.loop(0, words[RoundedArg.BLOCKS]) as block:
                    self._multiply(row, block, codes)
                    self._scale(row, block, body.add(scales, body.mul(block, self.width)))
                self._finish(row, body.mul(panel, self.width))
        return body.text()

    def _multiply(self, row: ir.Value, block: ir.Value, codes: ir.Value) -> None:
        """The int32 sums of a block."""
        body, b, words, form = self.body, self.body.b, self.words, self.form
        for cells in self.sums:
            for cell in cells:
                b.store(ir.Constant(self.dot.vector, None), cell)
        start = body.mul(block, words[RoundedArg.BLOCK])
        stop = body.minimum(body.add(start, words[RoundedArg.BLOCK]), words[RoundedArg.GROUPS])
        stride = words[RoundedArg.LEFT_STRIDE]
        rows = [
            b.gep(words[RoundedArg.LEFT], [body.mul(body.add(row, r), stride)], inbounds=True, source_etype=I8)
            for r in range(self.variant.rows)
        ]
        mask = sum(((1 << form.bits) - 1) << (8 * byte) for byte in range(QUAD))
        with body.loop(start, stop) as group:
            at = body.floats(codes, body.mul(group, self.width))
            read = [b.load(body.floats(at, v * body.lanes), typ=self.dot.vector, align=4) for v in range(VECTORS)]
            step = body.mul(group, form.group)
            for field in range(form.group // QUAD):
                fields = read
                if form.bits < 8:
                    shift, bits = number(self.dot.vector, form.bits * field), number(self.dot.vector, mask)
                    fields = [b.and_(b.lshr(word, shift) if field else word, bits) for word in read]
                left = [self.dot.left(part) for part in fields]
                for r, cells in enumerate(self.sums):
                    place = b.gep(rows[r], [body.add(step, QUAD * field)], inbounds=True, source_etype=I8)
                    right = self.dot.right(self.dot.splat(load_quad(body, place)))
                    for cell, part in zip(cells, left, strict=True):
                        b.store(self.dot.add(b.load(cell, typ=self.dot.vector), part, right), cell)

    def _scale(self, row: ir.Value, block: ir.Value, index: ir.Value) -> None:
        """Add the sums of a block to the totals: less what zero makes up, times both scales."""
        body, b, words = self.body, self.body.b, self.words
        middle = number(body.vector, float(self.middle))
        zeros = [middle] * VECTORS
        if self.form.zeros:
            zeros = [b.fadd(zero, middle) for zero in zero_points(body, self.form, words[RoundedArg.ZEROS], index)]
        scales = [
            body.load(body.floats(words[RoundedArg.SCALES], body.add(index, v * body.lanes))) for v in range(VECTORS)
        ]
        for r, cells in enumerate(self.sums):
            place = body.add(body.mul(body.add(row, r), words[RoundedArg.BLOCKS]), block)
            own = body.splat(body.load_scalar(body.floats(words[RoundedArg.LEFT_SCALES], place)))
            less = body.splat(b.fneg(body.load_scalar(body.floats(words[RoundedArg.LEFT_SUMS], place))))
            for v, cell in enumerate(cells):
                value = b.sitofp(b.load(cell, typ=self.dot.vector), body.vector)
                value = body.multiply_add(less, zeros[v], value)
                at = self._total(r * VECTORS + v)
                body.store(body.multiply_add(value, b.fmul(scales[v], own), body.load(at)), at)

    def _finish(self, row: ir.Value, panel_column: ir.Value) -> None:
        """The totals of a tile through the epilogue, those beyond the last column left out."""
        body, epilogue = self.body, self.epilogue
        with body.loop(0, constant(self.variant.rows)) as r, body.loop(0, constant(self.width), body.lanes) as inside:
            column = body.add(panel_column, inside)
            left = body.sub(self.words[RoundedArg.COLUMNS], column)
            out = body.add(body.mul(body.add(row, r), self.words[RoundedArg.COLUMNS]), column)
            result = epilogue.emit(
                body.b,
                body.load(body.floats(self.totals, body.add(body.mul(r, self.width), inside))),
                channel=lambda i: body.load(body.floats(epilogue.channels[i], column)),
                tensor=lambda i: body.load_some(body.floats(epilogue.tensors[i], out), left),
            )
            body.store_some(result, body.floats(self.words[RoundedArg.OUTPUT], out), left)

    def _total(self, i: int) -> ir.Value:
        return self.body.floats(self.totals, i * self.body.lanes)
