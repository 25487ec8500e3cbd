"""Softmax of rows of numbers of 8 or 16 bits: exponentials of how far each number lies below the largest.

They are kept for the second pass over a row, on the stack, or computed again where it is too long for that.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import F32, I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import call, splat
from mace_cpu.shared.codegen.vector_math import exp_of_negative
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess, code_type, is_signed
from mace_cpu.shared.epilogue.requantize import Requantization

VECTORS = 4
"""Of floats that belong to a vector of numbers."""

FIRST_OF_RESULT = 5
MOST_KEPT = 1024
"""Exponentials of a row that there is room for on the stack."""


def build(symbol: str, source_type: str, result: Requantization, target: Target) -> str:
    """IR; one unit is one row."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    code = _Rows(body, source_type, result, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as row:
        code.emit_row(row)
    return body.text()


class _Rows:
    """The code while it is emitted."""

    def __init__(self, body: Body, source_type: str, result: Requantization, *, is_x86: bool) -> None:
        self.body, self.is_signed = body, is_signed(source_type)
        self.code, self.stored = code_type(source_type), code_type(result.result)
        self.source, self.target = body.pointer(0), body.pointer(1)
        self.length = body.word(2)
        self.step, self.inverse = body.number(3), body.number(4)
        self.requantize = RequantizeCode(body, FIRST_OF_RESULT, result, is_x86=is_x86)
        self.at_once = VECTORS * body.lanes
        self.some = ShortAccess(body, body.lanes, partial=True)
        self.largest, self.total = body.variable(I32), body.variable(body.vector)
        self.room = body.memory(ir.ArrayType(F32, MOST_KEPT + VECTORS * body.lanes))

    def emit_row(self, row: ir.Value) -> None:
        b = self.body.b
        with b.if_else(b.icmp_signed("<=", self.length, constant(MOST_KEPT))) as (then, otherwise):
            with then:
                self._emit(row, keeps=True)
            with otherwise:
                self._emit(row, keeps=False)

    def _emit(self, row: ir.Value, *, keeps: bool) -> None:
        body, b = self.body, self.body.b
        offset = body.mul(row, self.length)
        source = self._at(self.source, offset, self.code)
        target = self._at(self.target, offset, self.stored)
        largest = self._largest(source)
        whole = b.and_(self.length, constant(-body.lanes))
        every = constant(body.lanes)
        b.store(ir.Constant(body.vector, None), self.total)

        def add(index: ir.Value, left: ir.Value | None) -> None:
            found = self._exponential(source, index, largest, left)
            if keeps:
                body.store(found, body.floats(self.room, index))
            if left is not None:
                found = b.select(body.first_lanes(left), found, ir.Constant(body.vector, None))
            b.store(b.fadd(b.load(self.total, typ=body.vector), found), self.total)

        with body.loop(0, whole, body.lanes) as index:
            add(index, None)
        with b.if_then(body.less(whole, self.length)):
            add(whole, body.sub(self.length, whole))
        total = call(
            b,
            f"llvm.vector.reduce.fadd.v{body.lanes}f32",
            F32,
            [ir.Constant(F32, 0.0), b.load(self.total, typ=body.vector)],
        )
        factor = body.splat(b.fdiv(self.inverse, total))
        blocks = b.and_(self.length, constant(-self.at_once))

        def again(index: ir.Value, left: ir.Value | None = None) -> ir.Value:
            if keeps:
                return body.load(body.floats(self.room, index))
            return self._exponential(source, index, largest, left)

        with body.loop(0, blocks, self.at_once) as index:
            found = [again(body.add(index, v * body.lanes)) for v in range(VECTORS)]
            result = self.requantize.floats_to_numbers([b.fmul(one, factor) for one in found])
            b.store(result, self._at(target, index, self.stored), align=1)
        with body.loop(blocks, self.length, body.lanes) as index:
            left = body.minimum(body.sub(self.length, index), every)
            one = again(index, left)
            result = self.requantize.floats_to_numbers([b.fmul(one, factor)])
            self.some.store(result, self._at(target, index, self.stored), left)

    def _largest(self, source: ir.Value) -> ir.Value:
        """The largest number of a row, in all lanes."""
        body, b = self.body, self.body.b
        name = "smax" if self.is_signed else "umax"
        widen = b.sext if self.is_signed else b.zext
        kind = ir.VectorType(self.code, self.at_once)
        least = -1 << (self.code.width - 1) if self.is_signed else 0
        held = body.variable(kind)
        b.store(ir.Constant(kind, [least] * self.at_once), held)
        whole = b.and_(self.length, constant(-self.at_once))
        with body.loop(0, whole, self.at_once) as index:
            found = b.load(self._at(source, index, self.code), typ=kind, align=1)
            b.store(
                call(b, f"llvm.{name}.v{self.at_once}{self.code}", kind, [b.load(held, typ=kind), found]),
                held,
            )
        first = call(b, f"llvm.vector.reduce.{name}.v{self.at_once}{self.code}", self.code, [b.load(held, typ=kind)])
        b.store(widen(first, I32), self.largest)
        with body.loop(whole, self.length) as index:
            found = widen(b.load(self._at(source, index, self.code), typ=self.code, align=1), I32)
            before = b.load(self.largest, typ=I32)
            b.store(b.select(b.icmp_signed(">", found, before), found, before), self.largest)
        return splat(b, b.load(self.largest, typ=I32), ir.VectorType(I32, body.lanes))

    def _exponential(self, source: ir.Value, index: ir.Value, largest: ir.Value, left: ir.Value | None) -> ir.Value:
        """The exponentials of a vector of numbers, of which ``left`` exist; None: all."""
        body, b = self.body, self.body.b
        kind, at = ir.VectorType(self.code, body.lanes), self._at(source, index, self.code)
        codes = b.load(at, typ=kind, align=1) if left is None else self.some.load(at, kind, left)
        widen = b.sext if self.is_signed else b.zext
        below = b.sub(widen(codes, ir.VectorType(I32, body.lanes)), largest)
        return exp_of_negative(b, b.fmul(b.sitofp(below, body.vector), body.splat(self.step)))

    def _at(self, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=kind)
