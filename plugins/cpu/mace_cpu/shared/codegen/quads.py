"""Dot products of bytes, four to a lane of int32, in the instructions that a target has for them."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, Body
from mace_cpu.shared.codegen.vector_basic import call, constant
from mace_cpu.shared.quads import QUAD, QuadUnit

I16 = ir.IntType(16)

_SIGNS = -0x7F7F7F80
"""The highest bit of each of four bytes."""

Operand = Sequence[ir.Value]
"""A vector of quads in the form in which the unit multiplies it."""


class QuadDot:
    """Accumulates products of quads in vectors of int32.

    Attributes:
        vector: the type of a vector of quads, and of sums: int32, ``body.lanes`` of them.
        accumulator: the type of what sums are accumulated in: the same, or twice as many, of which two make a sum.
        changes_left: whether the left operand's bytes are multiplied as other ones.
        takes_lanes: whether one lane of the left operand can be multiplied with all of the right one.
    """

    def __init__(self, body: Body, unit: QuadUnit, *, left_is_signed: bool) -> None:
        self._body, self._unit, self._left_is_signed = body, unit, left_is_signed
        self.changes_left = unit.left_offset(left_is_signed) != 0
        self.takes_lanes = unit is QuadUnit.DOT
        self.vector = ir.VectorType(I32, body.lanes)
        self.accumulator = ir.VectorType(I32, 2 * body.lanes) if unit is QuadUnit.LONG else self.vector

    def left(self, quad: ir.Value) -> Operand:
        """An int32 that holds four bytes, for all lanes; or a vector of such."""
        vector = quad if isinstance(quad.type, ir.VectorType) else self.splat(quad)
        if self.changes_left:
            vector = self.changed(vector)
        return self._widened(vector, self._left_is_signed)

    def changed(self, quads: ir.Value) -> ir.Value:
        """A vector of quads with the highest bit of each byte turned over."""
        return self._body.b.xor(quads, constant(quads.type, _SIGNS))

    def right(self, vector: ir.Value) -> Operand:
        """A vector of quads of signed bytes."""
        return self._widened(vector, True)

    def begin(self, sums: ir.Value) -> ir.Value:
        """An accumulator that holds these sums."""
        if self.accumulator is self.vector:
            return sums
        none, lanes = ir.Constant(self.vector, None), self._body.lanes
        return self._body.shuffle(sums, none, [lane for i in range(lanes) for lane in (i, lanes)])

    def sums(self, accumulator: ir.Value) -> ir.Value:
        """The sums that an accumulator holds."""
        if self.accumulator is self.vector:
            return accumulator
        halves = [list(range(start, 2 * self._body.lanes, 2)) for start in (0, 1)]
        return self._body.b.add(*(self._body.shuffle(accumulator, accumulator, lanes) for lanes in halves))

    def add(self, total: ir.Value, left: Operand, right: Operand) -> ir.Value:
        """``total``, an accumulator or a vector of sums, plus the dot product of each pair of quads."""
        b, body = self._body.b, self._body
        if self._unit is QuadUnit.LONG:
            if total.type.count == self.vector.count:
                return self.sums(self.add(self.begin(total), left, right))
            return b.add(total, self._long_products(left[0], right[0]))
        if self._unit is QuadUnit.VNNI:
            return call(b, f"llvm.x86.avx512.vpdpbusd.{32 * body.lanes}", self.vector, [total, left[0], right[0]])
        if self._unit is QuadUnit.DOT:
            # the last operand is the one of which the instruction takes a lane
            quads = [b.bitcast(part, ir.VectorType(I8, QUAD * body.lanes)) for part in (right[0], left[0])]
            name = f"llvm.aarch64.neon.sdot.v{body.lanes}i32.v{QUAD * body.lanes}i8"
            return call(b, name, self.vector, [total, *quads])
        if self._unit is QuadUnit.WORDS:
            for one, other in zip(left, right, strict=True):
                total = add_pairs(self._body, total, one, other)
            return total
        for one, other in zip(left, right, strict=True):
            total = b.add(total, b.mul(one, other))
        return total

    def _long_products(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """The products of signed bytes, two added up in each lane; one of 16 bits has room for no more than itself."""
        b, lanes = self._body.b, self._body.lanes
        kind = ir.VectorType(I8, QUAD * lanes)
        words = [b.sext(b.bitcast(part, kind), ir.VectorType(I16, QUAD * lanes)) for part in (left, right)]
        products = b.mul(*words)
        parts = []
        for first in range(0, QUAD * lanes, 8):
            eight = self._body.shuffle(products, products, list(range(first, first + 8)))
            parts.append(call(b, "llvm.aarch64.neon.saddlp.v4i32.v8i16", ir.VectorType(I32, 4), [eight]))
        if len(parts) == 1:
            return parts[0]
        found = parts
        while len(found) > 1:
            count = 2 * found[0].type.count
            found = [self._body.shuffle(a, c, list(range(count))) for a, c in zip(found[::2], found[1::2], strict=True)]
        return found[0]

    def splat(self, quad: ir.Value) -> ir.Value:
        """An int32 in all lanes."""
        b, undefined = self._body.b, ir.Constant(self.vector, ir.Undefined)
        first = b.insert_element(undefined, quad, ir.Constant(I32, 0))
        return b.shuffle_vector(first, undefined, ir.Constant(self.vector, None))

    def _widened(self, vector: ir.Value, is_signed: bool) -> Operand:
        b, body = self._body.b, self._body
        if self._unit is QuadUnit.WORDS:
            kind = ir.VectorType(I16, 2 * body.lanes)
            words, eight = b.bitcast(vector, kind), constant(kind, 8)
            if is_signed:
                return [b.ashr(b.shl(words, eight), eight), b.ashr(words, eight)]
            return [b.and_(words, constant(kind, 255)), b.lshr(words, eight)]
        if self._unit is QuadUnit.LANES:
            shift, top = b.ashr if is_signed else b.lshr, constant(self.vector, 24)
            raised = [b.shl(vector, constant(self.vector, 24 - 8 * i)) for i in range(QUAD)]
            return [shift(part, top) for part in raised]
        return [vector]


def add_pairs(body: Body, total: ir.Value, left: ir.Value, right: ir.Value) -> ir.Value:
    """``total`` plus the products of signed 16-bit numbers, two to a lane of int32: x86-64 alone has it.

    VNNI does the addition with the multiplication.
    """
    b, lanes = body.b, body.lanes
    name = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd", 4: "llvm.x86.sse2.pmadd.wd"}[lanes]
    kind = ir.VectorType(I16, 2 * lanes)
    operands = [b.bitcast(one, kind) for one in (left, right)]
    return b.add(total, call(b, name, ir.VectorType(I32, lanes), operands))


def load_quad(body: Body, at: ir.Value, count: int = QUAD) -> ir.Value:
    """The first ``count`` bytes of a quad as an int32, zeros behind them; no more are read."""
    b = body.b
    if count == QUAD:
        return b.load(at, typ=I32, align=1)
    if count == 1:
        return b.zext(b.load(at, typ=I8, align=1), I32)
    pair = b.zext(b.load(at, typ=I16, align=1), I32)
    if count == 2:
        return pair
    third = b.load(b.gep(at, [ir.Constant(ir.IntType(64), 2)], inbounds=True, source_etype=I8), typ=I8, align=1)
    return b.or_(pair, b.shl(b.zext(third, I32), ir.Constant(I32, 16)))
