"""The hidden state rounded to 8 bits by its own range, times weights of 8 bits: what DynamicQuantizeLSTM does.

Rounding is DynamicQuantizeLinear's, sums are exact, and a sum is scaled by one factor, as onnxruntime does it.
"""

from __future__ import annotations

from collections.abc import Mapping

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.recurrent.arguments import PANEL_VECTORS, Arg
from mace_cpu.shared.codegen.body import I8, I32, constant
from mace_cpu.shared.codegen.quads import QuadDot, load_quad
from mace_cpu.shared.codegen.rows import RowBody, larger
from mace_cpu.shared.codegen.vector_basic import constant as number
from mace_cpu.shared.quads import QUAD, QuadUnit

ROUNDER = 12582912.0
"""1.5 * 2**23: adding and subtracting it rounds a float32 below 2**22 to nearest even."""

LARGEST = 255.0


class RoundedProduct:
    """Adds the product of a state and packed bytes to gates."""

    def __init__(self, body: RowBody, target: Target, hidden: ir.Value, *, zeros: bool) -> None:
        self._body, self._hidden = body, hidden
        self._unit = QuadUnit.of(target)
        self._dot = QuadDot(body, self._unit, left_is_signed=False)
        self._sums = [body.variable(self._dot.vector) for _ in range(PANEL_VECTORS)]
        self._total = body.variable(self._dot.vector) if zeros else None
        self._panel = PANEL_VECTORS * body.lanes
        self._quads = body.b.udiv(body.add(hidden, QUAD - 1), constant(QUAD))

    def choose(self, words: Mapping[Arg, ir.Value], direction: ir.Value) -> None:
        """Multiply with the weights of a direction from now on."""
        body = self._body
        columns = body.mul(body.mul(direction, words[Arg.PANELS]), self._panel)
        self._weights = body.floats(words[Arg.RECURRENT], body.mul(columns, self._quads))
        self._column_sums = body.floats(words[Arg.SUMS], columns)
        self._zeros = body.floats(words[Arg.ZEROS], columns)
        self._scales = body.floats(words[Arg.SCALES], columns)

    def add(self, target: ir.Value, state: ir.Value, room: ir.Value, panels: ir.Value) -> None:
        """Add the product with ``state`` to ``target``, by whole panels; the bytes are kept in ``room``."""
        body = self._body
        scale, zero, total = self._round(state, room)
        with body.loop(0, panels) as panel:
            column = body.mul(panel, self._panel)
            weights = body.floats(self._weights, body.mul(column, self._quads))
            self._multiply(room, weights)
            for v, cell in enumerate(self._sums):
                at = body.add(column, v * body.lanes)
                self._finish(body.b.load(cell, typ=self._dot.vector), at, scale, zero, total, target)

    def _round(self, state: ir.Value, room: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value | None]:
        """The bytes of the state: (their scale, their zero point, their sum if it is needed), in all lanes.

        The last two are of the bytes as they are multiplied.
        """
        body, b = self._body, self._body.b
        low, high = body.fold(
            self._hidden,
            [0.0, 0.0],
            [_smaller, larger],
            lambda i, rest: [body.read(state, i, rest)] * 2,
        )
        steps = b.fdiv(b.fsub(high, low), number(body.vector, LARGEST))
        scale = b.select(b.fcmp_ordered("==", high, low), number(body.vector, 1.0), steps)
        zero = self._bounded(self._whole(b.fdiv(b.fneg(low), scale)))
        if self._total is not None:
            b.store(ir.Constant(self._dot.vector, None), self._total)

        def keep(i: ir.Value, rest: ir.Value | None) -> None:
            value = b.fadd(self._whole(b.fdiv(body.read(state, i, rest), scale)), zero)
            whole = b.fptosi(self._bounded(value), self._dot.vector)
            if self._total is not None:
                counted = whole
                if rest is not None:
                    counted = b.select(body.mask(rest), whole, ir.Constant(self._dot.vector, None))
                b.store(b.add(b.load(self._total, typ=self._dot.vector), counted), self._total)
            at = b.gep(room, [i], inbounds=True, source_etype=I8)
            b.store(b.trunc(whole, ir.VectorType(I8, body.lanes)), at, align=1)

        body.each(self._hidden, keep)
        offset = self._unit.left_offset(False)
        point = b.add(b.fptosi(zero, self._dot.vector), number(self._dot.vector, offset))
        if self._total is None:
            return scale, point, None
        name = f"llvm.vector.reduce.add.v{body.lanes}i32"
        reduce = body.declared(name, ir.FunctionType(I32, [self._dot.vector]))
        total = b.call(reduce, [b.load(self._total, typ=self._dot.vector)])
        total = b.add(total, b.mul(b.trunc(self._hidden, I32), ir.Constant(I32, offset)))
        return scale, point, self._dot.splat(total)

    def _whole(self, value: ir.Value) -> ir.Value:
        b, rounder = self._body.b, number(self._body.vector, ROUNDER)
        return b.fsub(b.fadd(value, rounder), rounder)

    def _bounded(self, value: ir.Value) -> ir.Value:
        """Within a byte; 0 for what is no number."""
        b, body = self._body.b, self._body
        value = b.select(b.fcmp_ordered(">", value, body.zero()), value, body.zero())
        largest = number(body.vector, LARGEST)
        return b.select(b.fcmp_ordered("<", value, largest), value, largest)

    def _multiply(self, room: ir.Value, weights: ir.Value) -> None:
        """The exact sums of a panel."""
        body, b = self._body, self._body.b
        for cell in self._sums:
            b.store(ir.Constant(self._dot.vector, None), cell)
        with body.loop(0, self._quads) as quad:
            at = b.gep(room, [body.mul(quad, QUAD)], inbounds=True, source_etype=I8)
            left = self._dot.left(load_quad(body, at))
            row = body.floats(weights, body.mul(quad, self._panel))
            for v, cell in enumerate(self._sums):
                found = b.load(body.floats(row, v * body.lanes), typ=self._dot.vector, align=4)
                b.store(self._dot.add(b.load(cell, typ=self._dot.vector), left, self._dot.right(found)), cell)

    def _finish(
        self, value: ir.Value, at: ir.Value, scale: ir.Value, zero: ir.Value, total: ir.Value | None, target: ir.Value
    ) -> None:
        """Subtract what zero points make up, scale, and add to the gates."""
        body, b = self._body, self._body.b
        value = b.sub(value, b.mul(zero, self._ints(self._column_sums, at)))
        if total is not None:
            value = b.sub(value, b.mul(total, self._ints(self._zeros, at)))
        factor = b.fmul(scale, body.load(body.floats(self._scales, at)))
        scaled = b.fmul(b.sitofp(value, body.vector), factor)
        place = body.floats(target, at)
        body.store(b.fadd(body.load(place), scaled), place)

    def _ints(self, base: ir.Value, at: ir.Value) -> ir.Value:
        return self._body.b.load(self._body.floats(base, at), typ=self._dot.vector, align=4)


def _smaller(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two floats (one of them where the other is NaN)."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)
