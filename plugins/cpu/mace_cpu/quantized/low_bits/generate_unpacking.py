"""Codes of few bits become float32 numbers in registers."""

from __future__ import annotations

from collections.abc import Iterator

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.quantized.low_bits.arguments import VECTORS, Form
from mace_cpu.shared.codegen import narrow_floats
from mace_cpu.shared.codegen.body import I8, I32, Body
from mace_cpu.shared.codegen.vector_basic import constant, with_lanes

TABLE_ENTRIES = 16


class Unpacking:
    """Vectors of words with codes as vectors of numbers, one for each step of a group."""

    def __init__(self, body: Body, form: Form, target: Target) -> None:
        self._body = body
        self._form = form
        self._words = ir.VectorType(I32, body.lanes)
        # a permutation of a register looks 16 numbers up at once, by the lowest four bits of each word
        has_table = not form.kind and form.bits <= 4 and body.lanes == TABLE_ENTRIES and target.has("avx512f")
        self._table = self._numbers() if has_table else None

    def _numbers(self) -> ir.Constant:
        values = [float(code % (1 << self._form.bits) - self._form.middle) for code in range(TABLE_ENTRIES)]
        return ir.Constant(self._body.vector, values)

    def load(self, at: ir.Value) -> ir.Value:
        """A vector of words, as `numbers` takes them."""
        words = self._body.b.load(at, typ=self._words, align=4)
        if self._form.kind or self._table is not None:
            return words
        # with its highest bit turned over, a code is the number in two's complement
        flips = sum(self._form.middle << shift for shift in range(0, 32, self._form.bits))
        return self._body.b.xor(words, constant(self._words, flips - (1 << 32)))

    def numbers(self, words: ir.Value, step: int) -> ir.Value:
        """The numbers of a step of the group, zero points not subtracted."""
        b, place, bits = self._body.b, self._form.place(step), self._form.bits
        if self._form.kind:
            codes = b.trunc(b.lshr(words, constant(self._words, place)), with_lanes(I8, self._body.lanes))
            return narrow_floats.decode(b, codes, self._form.kind)
        if self._table is not None:
            lowest = b.lshr(words, constant(self._words, place)) if place else words
            kind = ir.FunctionType(self._body.vector, [self._body.vector, self._words])
            return b.call(self._body.declared("llvm.x86.avx512.permvar.sf.512", kind), [self._table, lowest])
        raised = b.shl(words, constant(self._words, 32 - bits - place)) if 32 - bits - place else words
        return b.sitofp(b.ashr(raised, constant(self._words, 32 - bits)), self._body.vector)


def zero_points(body: Body, form: Form, at: ir.Value, index: ir.Value) -> Iterator[ir.Value]:
    """The zero points of a panel's columns, from element ``index`` on, as float32."""
    for v in range(VECTORS):
        place = body.add(index, v * body.lanes)
        if form.zeros == "float32":
            yield body.load(body.floats(at, place))
        else:
            codes = body.b.load(
                body.b.gep(at, [place], inbounds=True, source_etype=I8), typ=ir.VectorType(I8, body.lanes), align=1
            )
            yield body.b.sitofp(codes, body.vector)
