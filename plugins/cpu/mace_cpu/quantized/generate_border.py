"""Kernels between float32 and numbers of 8 or 16 bits: QuantizeLinear and DequantizeLinear with one scale for all."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import F32, I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import at_most
from mace_cpu.shared.codegen.vector_basic import constant as same
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess, code_type, is_signed
from mace_cpu.shared.epilogue.requantize import Requantization

VECTORS = 4
"""Of floats that belong to a vector of numbers."""

FIRST_OF_RESULT = 5
FAR = 1e6
"""Beyond every number with every zero point."""


def build_quantize(symbol: str, result: str, target: Target) -> str:
    """IR; one unit is some numbers, the last one may be shorter.  NaN becomes the lowest number."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    b = body.b
    source, scale, numbers_at = (body.pointer(i) for i in range(3))
    size, unit = body.word(3), body.word(4)
    code = RequantizeCode(body, FIRST_OF_RESULT, Requantization(result), is_x86=target.architecture == "x86_64")
    divisor = body.splat(body.load_scalar(scale))
    start, stop = body.mul(body.begin, unit), body.minimum(body.mul(body.end, unit), size)
    at_once = VECTORS * body.lanes
    some = ShortAccess(body, at_once, partial=True)

    def quotient(number: ir.Value) -> ir.Value:
        number = b.fdiv(number, divisor)
        low = same(body.vector, -FAR)
        number = b.select(b.fcmp_ordered(">", number, low), number, low)
        return at_most(b, number, same(body.vector, FAR))

    def at(index: ir.Value) -> ir.Value:
        return b.gep(numbers_at, [index], inbounds=True, source_etype=code_type(result))

    whole = body.add(start, b.and_(body.sub(stop, start), constant(-at_once)))
    with body.loop(start, whole, at_once) as index:
        taken = [body.load(body.floats(source, body.add(index, body.lanes * v))) for v in range(VECTORS)]
        b.store(code.floats_to_numbers([quotient(number) for number in taken]), at(index), align=1)
    with body.loop(whole, stop, body.lanes) as index:
        left = body.sub(stop, index)
        taken = [body.load_some(body.floats(source, index), left)]
        some.store(code.floats_to_numbers([quotient(number) for number in taken]), at(index), left)
    return body.text()


def build_dequantize(symbol: str, source_type: str, target: Target) -> str:
    """IR; units as for `build_quantize`."""
    body = Body(symbol, target.vector_bits // 32)
    b = body.b
    source, scale, floats_at = (body.pointer(i) for i in range(3))
    size, unit, zero = (body.word(i) for i in range(3, 6))
    factor = body.load_scalar(scale)
    start, stop = body.mul(body.begin, unit), body.minimum(body.mul(body.end, unit), size)
    widen = b.sext if is_signed(source_type) else b.zext
    kind = code_type(source_type)
    ints = ir.VectorType(I32, body.lanes)
    shift = b.trunc(zero, I32)
    first = b.insert_element(ir.Constant(ints, ir.Undefined), shift, ir.Constant(I32, 0))
    shifts = b.shuffle_vector(first, ir.Constant(ints, ir.Undefined), ir.Constant(ints, None))
    factors = body.splat(factor)

    def at(index: ir.Value) -> ir.Value:
        return b.gep(source, [index], inbounds=True, source_etype=kind)

    whole = body.add(start, b.and_(body.sub(stop, start), constant(-body.lanes)))
    with body.loop(start, whole, body.lanes) as index:
        codes = widen(b.load(at(index), typ=ir.VectorType(kind, body.lanes), align=1), ints)
        body.store(b.fmul(b.sitofp(b.sub(codes, shifts), body.vector), factors), body.floats(floats_at, index))
    with body.loop(whole, stop) as index:
        code = b.sub(widen(b.load(at(index), typ=kind, align=1), I32), shift)
        b.store(b.fmul(b.sitofp(code, F32), factor), body.floats(floats_at, index), align=4)
    return body.text()
