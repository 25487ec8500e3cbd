"""Vectors of 16-bit floats in the layouts of pairs: loads, stores and products in the numbers of a unit."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.bfloat16 import (
    add_bfloat16_products,
    from_bfloat16,
    has_bfloat16_instructions,
    to_bfloat16,
)
from mace_cpu.shared.codegen.body import FLOAT_BYTES, I8, Body, constant
from mace_cpu.shared.codegen.float16 import add_float16_products, from_float16, to_float16
from mace_cpu.shared.precision import PairUnit

I16 = ir.IntType(16)
HALF_BYTES = 2


def narrow(body: Body, value: ir.Value, unit: PairUnit) -> ir.Value:
    """A vector of float32 rounded to the unit's numbers, to nearest and of two to the even one, as 16-bit integers."""
    if unit.precision == "float16":
        return to_float16(body, value)
    return to_bfloat16(body, value, by_instruction=has_bfloat16_instructions(unit))


def widen(body: Body, halves: ir.Value, unit: PairUnit) -> ir.Value:
    """A vector of the unit's numbers, as 16-bit integers, as float32."""
    return from_float16(body, halves) if unit.precision == "float16" else from_bfloat16(body, halves)


def half_address(body: Body, base: ir.Value, word: ir.Value, odd: ir.Value) -> ir.Value:
    """Where the even (0) or ``odd`` (1) half of the ``lanes`` words from ``word`` on begins."""
    byte = body.add(body.mul(word, FLOAT_BYTES), body.mul(odd, HALF_BYTES * body.lanes))
    return body.b.gep(base, [byte], inbounds=True, source_etype=I8)


def load_half(body: Body, at: ir.Value, unit: PairUnit) -> ir.Value:
    """``lanes`` of the unit's numbers as a vector of float32."""
    return widen(body, body.b.load(at, typ=_halves(body.lanes), align=HALF_BYTES), unit)


def store_half(body: Body, value: ir.Value, at: ir.Value, unit: PairUnit, is_alone: ir.Value) -> None:
    """Store a vector in the unit's numbers; where it ``is_alone`` zeros behind it, where no channels are."""
    halves = narrow(body, value, unit)
    body.b.store(halves, at, align=HALF_BYTES)
    with body.b.if_then(is_alone, likely=False):
        behind = body.b.gep(at, [constant(body.lanes)], inbounds=True, source_etype=I16)
        body.b.store(ir.Constant(_halves(body.lanes), None), behind, align=HALF_BYTES)


def pair_of(body: Body, block: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Which pair of blocks a block belongs to, and 1 for its second one."""
    return body.b.lshr(block, constant(1)), body.b.and_(block, constant(1))


def add_pair_products(body: Body, left: ir.Value, right: ir.Value, addend: ir.Value, unit: PairUnit) -> ir.Value:
    """``addend + left.even * right.even + left.odd * right.odd``; factors are pairs in words that pass as float32."""
    if unit.precision == "float16":
        return add_float16_products(body, left, right, addend)
    by_instruction = unit in (PairUnit.AVX512, PairUnit.NEON)
    return add_bfloat16_products(body, left, right, addend, by_instruction=by_instruction)


def _halves(lanes: int) -> ir.VectorType:
    return ir.VectorType(I16, lanes)
