"""Means over all pixels of numbers that lie channels last: sums of a vector of channels in int32, of bytes in words
first."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import F32, I32, I64, Body, constant
from mace_cpu.shared.codegen.vector_basic import splat
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess, code_type, is_signed
from mace_cpu.shared.epilogue.requantize import Requantization

VECTORS = 4
"""Of int32 that belong to a vector of numbers."""

FIRST_OF_RESULT = 7
MOST_IN_WORDS = 128
"""So many bytes have a sum that a word of 16 bits holds, with a sign or without."""

I16 = ir.IntType(16)


def build(symbol: str, source_type: str, result: Requantization, target: Target) -> str:
    """IR; one unit is a vector of channels of one image."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    b = body.b
    source, target_at = body.pointer(0), body.pointer(1)
    channels, pixels, parts, zero = (body.word(i) for i in range(2, 6))
    ratio = body.number(6)
    code = RequantizeCode(body, FIRST_OF_RESULT, result, is_x86=target.architecture == "x86_64")
    widen = b.sext if is_signed(source_type) else b.zext
    width = VECTORS * body.lanes
    kind, words, ints = (
        ir.VectorType(one, count)
        for one, count in (
            (code_type(source_type), width),
            (I16, width),
            (I32, body.lanes),
        )
    )
    goes_by_words = kind.element.width < words.element.width
    total = body.variable(words)
    sums = [body.variable(ints) for _ in range(VECTORS)]
    factor = body.splat(b.fdiv(ratio, b.sitofp(pixels, F32)))
    offset = splat(b, b.trunc(body.mul(zero, pixels), I32), ints)

    def at(base: ir.Value, index: ir.Value, element: ir.Type = kind.element) -> ir.Value:
        return b.gep(base, [index], inbounds=True, source_etype=element)

    def add_up(taken: ir.Value) -> None:
        for v, cell in enumerate(sums):
            part = body.shuffle(taken, taken, list(range(v * body.lanes, (v + 1) * body.lanes)))
            b.store(b.add(b.load(cell, typ=ints), widen(part, ints)), cell)

    def emit(image: ir.Value, first: ir.Value, access: ShortAccess, valid: ir.Value) -> None:
        for cell in sums:
            b.store(ir.Constant(ints, None), cell)
        start = at(source, body.add(body.mul(image, body.mul(channels, pixels)), first))
        if goes_by_words:
            with body.loop(0, pixels, MOST_IN_WORDS) as begin:
                b.store(ir.Constant(words, None), total)
                with body.loop(begin, body.minimum(body.add(begin, MOST_IN_WORDS), pixels)) as pixel:
                    codes = access.load(at(start, body.mul(pixel, channels)), kind, valid)
                    b.store(b.add(b.load(total, typ=words), widen(codes, words)), total)
                add_up(b.load(total, typ=words))
        else:
            with body.loop(0, pixels) as pixel:
                add_up(access.load(at(start, body.mul(pixel, channels)), kind, valid))
        centered = [b.sub(b.load(cell, typ=ints), offset) for cell in sums]
        numbers = [b.fmul(b.sitofp(one, body.vector), factor) for one in centered]
        found = code.floats_to_numbers(numbers)
        place = body.add(body.mul(image, channels), first)
        access.store(found, at(target_at, place, code_type(result.result)), valid)

    whole, some = ShortAccess(body, width, partial=False), ShortAccess(body, width, partial=True)
    with body.loop(body.begin, body.end) as unit:
        image, part = body.divide(unit, parts)
        first = body.mul(part, ir.Constant(I64, width))
        last = body.sub(channels, constant(width))
        with b.if_else(b.icmp_signed(">=", last, constant(0))) as (then, otherwise):
            with then:  # the last vector is moved back, so that it is whole: some channels are computed twice
                emit(image, body.minimum(first, last), whole, constant(width))
            with otherwise:
                emit(image, constant(0), some, channels)
    return body.text()
