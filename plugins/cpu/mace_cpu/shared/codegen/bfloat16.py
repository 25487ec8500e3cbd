"""Vectors of bfloat16: rounding to it, and the product of pairs, by instruction or in ordinary arithmetic.

A word of 32 bits holds a pair, the element of even index in its lower half.  A bfloat16 is the upper half of a float32.
"""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.body import F32, I32, Body
from mace_cpu.shared.precision import PairUnit

I16 = ir.IntType(16)
_ROUNDING = 0x7FFF
_UPPER_HALF = 0xFFFF0000
_SIGN_OFF = 0x7FFFFFFF
_INFINITY = 0x7F800000
_QUIET = 0x00400000


class _BFloat16(ir.Type):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's ``bfloat``, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


def has_bfloat16_instructions(unit: PairUnit | None) -> bool:
    """Whether the processors with this unit also round to bfloat16 by instruction."""
    return unit in (PairUnit.AMX, PairUnit.AVX512)


def to_bfloat16(body: Body, value: ir.Value, *, by_instruction: bool) -> ir.Value:
    """A vector of float32 rounded to the nearest bfloat16 (of two as near, the even one), as 16-bit integers.

    NaN stays NaN.  The instruction takes numbers below 2 ** -126 for zero.
    """
    b, lanes = body.b, value.type.count
    words = ir.VectorType(I32, lanes)
    if by_instruction:
        kind = ir.VectorType(_BFloat16(), lanes)
        name = f"llvm.x86.avx512bf16.cvtneps2bf16.{32 * lanes}"
        return b.bitcast(b.call(body.declared(name, ir.FunctionType(kind, [value.type])), [value]), _halves(lanes))
    bits = b.bitcast(value, words)
    odd = b.and_(b.lshr(bits, _all(words, 16)), _all(words, 1))
    rounded = b.add(bits, b.add(odd, _all(words, _ROUNDING)))
    is_nan = b.icmp_unsigned(">", b.and_(bits, _all(words, _SIGN_OFF)), _all(words, _INFINITY))
    chosen = b.select(is_nan, b.or_(bits, _all(words, _QUIET)), rounded)
    return b.trunc(b.lshr(chosen, _all(words, 16)), _halves(lanes))


def from_bfloat16(body: Body, halves: ir.Value) -> ir.Value:
    """A vector of bfloat16, as 16-bit integers, as float32."""
    b, lanes = body.b, halves.type.count
    words = ir.VectorType(I32, lanes)
    return b.bitcast(b.shl(b.zext(halves, words), _all(words, 16)), ir.VectorType(F32, lanes))


def add_bfloat16_products(
    body: Body, left: ir.Value, right: ir.Value, addend: ir.Value, *, by_instruction: bool
) -> ir.Value:
    """``addend + left.even * right.even + left.odd * right.odd``; factors are pairs in words that pass as float32."""
    b = body.b
    if by_instruction and body.takes_lanes:
        return _dots(body, left, right, addend)
    if by_instruction:
        lanes = left.type.count
        pairs = ir.VectorType(_BFloat16(), 2 * lanes)
        kind = ir.FunctionType(addend.type, [addend.type, pairs, pairs])
        function = body.declared(f"llvm.x86.avx512bf16.dpbf16ps.{32 * lanes}", kind)
        return b.call(function, [addend, b.bitcast(left, pairs), b.bitcast(right, pairs)])
    total = addend
    for part in (_even, _odd):
        total = body.multiply_add(part(body, left), part(body, right), total)
    return total


def _dots(body: Body, left: ir.Value, right: ir.Value, addend: ir.Value) -> ir.Value:
    """The same by ``bfdot``, four words at a time; the instruction takes a lane of its last operand."""
    b, count = body.b, addend.type.count
    pairs, four = ir.VectorType(_BFloat16(), 8), ir.VectorType(F32, 4)
    function = body.declared("llvm.aarch64.neon.bfdot.v4f32.v8bf16", ir.FunctionType(four, [four, pairs, pairs]))
    parts = []
    for first in range(0, count, 4):
        lanes = list(range(first, first + 4))
        total, one, other = (body.shuffle(value, value, lanes) for value in (addend, right, left))
        parts.append(b.call(function, [total, b.bitcast(one, pairs), b.bitcast(other, pairs)]))
    while len(parts) > 1:
        width = 2 * parts[0].type.count
        parts = [
            body.shuffle(one, other, list(range(width))) for one, other in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _even(body: Body, pairs: ir.Value) -> ir.Value:
    words = ir.VectorType(I32, pairs.type.count)
    return body.b.bitcast(body.b.shl(body.b.bitcast(pairs, words), _all(words, 16)), pairs.type)


def _odd(body: Body, pairs: ir.Value) -> ir.Value:
    words = ir.VectorType(I32, pairs.type.count)
    return body.b.bitcast(body.b.and_(body.b.bitcast(pairs, words), _all(words, _UPPER_HALF)), pairs.type)


def _halves(lanes: int) -> ir.VectorType:
    return ir.VectorType(I16, lanes)


def _all(kind: ir.VectorType, number: int) -> ir.Constant:
    return ir.Constant(kind, [number] * kind.count)
