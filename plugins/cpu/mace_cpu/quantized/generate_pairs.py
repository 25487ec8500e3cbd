"""Sums, differences, products and quotients of numbers of 8 or 16 bits, a vector at a time; one unit is a segment of a
row."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.pairs import CONTIGUOUS, HEADER_WORDS, Pair
from mace_cpu.shared.codegen.body import I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import at_most, splat
from mace_cpu.shared.codegen.vector_basic import constant as same
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess, code_type, is_signed

VECTORS = 4
"""Of floats that belong to a vector of numbers."""

FIRST_NUMBER = 6
FIRST_OF_RESULT = 10
FAR = 1e6
"""Beyond every number with every zero point."""


def build(symbol: str, pair: Pair, target: Target) -> str:
    body = Body(symbol, target.vector_bits // 32, target.features)
    code = _Pairs(body, pair, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as unit:
        code.emit_segment(unit)
    return body.text()


class _Pairs:
    """The code while it is emitted."""

    def __init__(self, body: Body, pair: Pair, *, is_x86: bool) -> None:
        self.body, self.pair = body, pair
        self.length, self.segment, self.segments = (body.word(i) for i in range(3))
        self.target, *self.operands = (body.pointer(i) for i in range(3, 6))
        numbers = [body.splat(body.number(FIRST_NUMBER + i)) for i in range(4)]
        self.zeros, self.factors = numbers[:2], numbers[2:]
        self.requantize = RequantizeCode(body, FIRST_OF_RESULT, pair.result, is_x86=is_x86)
        lists = [[body.word(HEADER_WORDS + pair.outer * i + axis) for axis in range(pair.outer)] for i in range(3)]
        self.outer, self.strides = lists[0], lists[1:]
        self.at_once = VECTORS * body.lanes
        self.kinds = [ir.VectorType(code_type(label), self.at_once) for label in pair.types]
        self.stored = code_type(pair.result.result)
        self.whole = ShortAccess(body, self.at_once, partial=False)
        self.some = ShortAccess(body, self.at_once, partial=True)

    def emit_segment(self, unit: ir.Value) -> None:
        body, b = self.body, self.body.b
        row, part = body.divide(unit, self.segments)
        rows = self._rows(row)
        result = self._at(self.target, body.mul(row, self.length), self.stored)
        heads = [
            None if how == CONTIGUOUS else splat(b, b.load(at, typ=kind.element, align=1), kind)
            for how, at, kind in zip(self.pair.reads, rows, self.kinds, strict=True)
        ]
        start = body.mul(part, self.segment)
        stop = body.minimum(body.add(start, self.segment), self.length)
        whole = body.add(start, b.and_(body.sub(stop, start), constant(-self.at_once)))

        def emit_at(index: ir.Value, access: ShortAccess, valid: ir.Value) -> None:
            taken = [
                access.load(self._at(at, index, kind.element), kind, valid) if head is None else head
                for at, head, kind in zip(rows, heads, self.kinds, strict=True)
            ]
            access.store(self._combined(taken[0], taken[1]), self._at(result, index, self.stored), valid)

        with body.loop(start, whole, self.at_once) as index:
            emit_at(index, self.whole, constant(self.at_once))
        with b.if_then(body.less(whole, stop)):
            emit_at(whole, self.some, body.sub(stop, whole))

    def _combined(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """The results of a vector of each operand."""
        body, builder, kind = self.body, self.body.b, self.pair.kind
        numbers = []
        for part in range(VECTORS):
            left, right = (self._centered(i, codes, part) for i, codes in enumerate((a, b)))
            if kind in ("add", "sub"):
                combine = builder.fadd if kind == "add" else builder.fsub
                number = combine(builder.fmul(left, self.factors[0]), builder.fmul(right, self.factors[1]))
            else:
                combine = builder.fmul if kind == "mul" else builder.fdiv
                number = builder.fmul(combine(left, right), self.factors[0])
            if kind == "div":  # infinities saturate, what is not a number becomes the lowest
                low = same(body.vector, -FAR)
                number = builder.select(builder.fcmp_ordered(">", number, low), number, low)
                number = at_most(builder, number, same(body.vector, FAR))
            numbers.append(number)
        return self.requantize.floats_to_numbers(numbers)

    def _centered(self, operand: int, codes: ir.Value, part: int) -> ir.Value:
        """Some numbers less their zero point, as floats."""
        body, b = self.body, self.body.b
        own = body.shuffle(codes, codes, list(range(part * body.lanes, (part + 1) * body.lanes)))
        widen = b.sext if is_signed(self.pair.types[operand]) else b.zext
        wide = widen(own, ir.VectorType(I32, body.lanes))
        return b.fsub(b.sitofp(wide, body.vector), self.zeros[operand])

    def _rows(self, row: ir.Value) -> list[ir.Value]:
        """Where each operand's part of a row begins."""
        body = self.body
        offsets: list[ir.Value] = [constant(0), constant(0)]
        left = row
        for axis in reversed(range(self.pair.outer)):
            position = left
            if axis:
                left, position = body.divide(left, self.outer[axis])
            offsets = [
                body.add(offset, body.mul(position, strides[axis]))
                for offset, strides in zip(offsets, self.strides, strict=True)
            ]
        placed = zip(self.operands, offsets, self.kinds, strict=True)
        return [self._at(base, offset, kind.element) for base, offset, kind in placed]

    def _at(self, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=kind)
