"""Vectors of float16: rounding to it, and products, by instruction where the target has them.

A word of 32 bits holds a pair, the element of even index in its lower half.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen import element_types
from mace_cpu.shared.codegen.body import F32, FLOAT_BYTES, I32, VOID, Body

F16 = element_types.F16
I16 = ir.IntType(16)
HALVES = 8
"""Elements of a register of 128 bits."""

_FOUR = ir.VectorType(F32, HALVES // 2)
_EIGHT = ir.VectorType(F16, HALVES)


def to_float16(body: Body, value: ir.Value) -> ir.Value:
    """A vector of float32 rounded to the nearest float16 (of two as near, the even one), as 16-bit integers.

    NaN stays NaN; from 65520 on numbers become infinite.
    """
    return element_types.float16_bits(body.b, value)


def from_float16(body: Body, halves: ir.Value) -> ir.Value:
    """A vector of float16, as 16-bit integers, as float32."""
    return element_types.of_float16_bits(body.b, halves)


def add_float16_products(body: Body, left: ir.Value, right: ir.Value, addend: ir.Value) -> ir.Value:
    """``addend + left.even * right.even + left.odd * right.odd`` in float32; factors are pairs in words that pass as
    float32."""
    b, total = body.b, addend
    words = ir.VectorType(I32, left.type.count)
    for shift in (0, 16):
        one, other = (
            from_float16(
                body,
                b.trunc(
                    b.lshr(b.bitcast(pairs, words), ir.Constant(words, [shift] * words.count)),
                    ir.VectorType(I16, words.count),
                ),
            )
            for pairs in (left, right)
        )
        total = body.multiply_add(one, other, total)
    return total


def lane_of(body: Body, halves: ir.Value, number: int) -> ir.Value:
    """One of eight float16 in every lane; no instruction of its own where it is a factor."""
    return body.shuffle(halves, ir.Constant(halves.type, ir.Undefined), [number] * HALVES)


def multiply_halves(body: Body, left: ir.Value, right: ir.Value, addend: ir.Value | None) -> ir.Value:
    """``left * right + addend`` of eight float16, rounded once."""
    if addend is None:
        return body.b.fmul(left, right)
    function = body.declared("llvm.fma.v8f16", ir.FunctionType(_EIGHT, [_EIGHT] * 3))
    return body.b.call(function, [left, right, addend])


def multiply_long(body: Body, left: ir.Value, right: ir.Value, addend: ir.Value) -> ir.Value:
    """``left * right + addend``, factors of eight float16, sums of eight float32: products are exact."""
    low, high = (body.shuffle(addend, addend, list(range(first, first + 4))) for first in (0, 4))
    parts = []
    for name, total in (("fmlal", low), ("fmlal2", high)):
        kind = ir.FunctionType(_FOUR, [_FOUR, _EIGHT, _EIGHT])
        function = body.declared(f"llvm.aarch64.neon.{name}.v4f32.v8f16", kind)
        parts.append(body.b.call(function, [total, left, right]))
    return body.shuffle(parts[0], parts[1], list(range(HALVES)))


def load_halves(body: Body, at: ir.Value) -> ir.Value:
    """Eight float16, as such."""
    return body.b.load(at, typ=_EIGHT, align=FLOAT_BYTES // 2)


def keep_order(body: Body, values: Sequence[ir.Value]) -> None:
    """Have LLVM compute these vectors before it loads what is loaded behind this place; no instruction.

    Left to itself it sums up one result after the other, so that each operation waits for the one before, and holds all
    operands meanwhile.
    """
    kind = ir.FunctionType(VOID, [value.type for value in values])
    constraints = ",".join(["w"] * len(values)) + ",~{memory}"
    body.b.call(ir.InlineAsm(kind, "", constraints, side_effect=True), values)
