"""All pixels of a channel block at once: their largest, or their sum."""

from __future__ import annotations

import math

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import Body, constant
from mace_cpu.shared.codegen.vector_basic import maximum

F64 = ir.DoubleType()
SIDE_BY_SIDE = 4
"""Results or parts of one that are computed independently, so that no operation waits for the one before."""


def build(symbol: str, block: int, kind: str, _target: Target) -> str:
    """IR of a pooling over all pixels.

    Kinds: "max" (a NaN wins), "sum" (in float64, divided
    by the divisor).  Unit: one channel block.
    """
    body = Body(symbol, block)
    pixels = body.word(2)
    factor = body.b.fdiv(ir.Constant(F64, 1.0), body.b.sitofp(body.word(3), F64))
    kind_of_sum = body.vector if kind == "max" else ir.VectorType(F64, block)
    held = [body.variable(kind_of_sum) for _ in range(SIDE_BY_SIDE)]
    start = ir.Constant(kind_of_sum, [-math.inf if kind == "max" else 0.0] * block)

    def joined(left: ir.Value, right: ir.Value) -> ir.Value:
        return maximum(body.b, left, right) if kind == "max" else body.b.fadd(left, right)

    def take(pixel: ir.Value, i: int) -> None:
        value = body.load(body.floats(source, body.mul(body.add(pixel, i), block)))
        if kind != "max":
            value = body.b.fpext(value, kind_of_sum)
        body.b.store(joined(body.b.load(held[i], typ=kind_of_sum), value), held[i])

    whole = body.b.and_(pixels, constant(-SIDE_BY_SIDE))
    with body.loop(body.begin, body.end) as unit:
        source = body.floats(body.pointer(0), body.mul(body.mul(unit, pixels), block))
        for cell in held:
            body.b.store(start, cell)
        with body.loop(0, whole, SIDE_BY_SIDE) as pixel:
            for i in range(SIDE_BY_SIDE):
                take(pixel, i)
        with body.loop(whole, pixels) as pixel:
            take(pixel, 0)
        result = body.b.load(held[0], typ=kind_of_sum)
        for cell in held[1:]:
            result = joined(result, body.b.load(cell, typ=kind_of_sum))
        if kind != "max":
            undefined = ir.Constant(kind_of_sum, ir.Undefined)
            one = body.b.insert_element(undefined, factor, ir.Constant(ir.IntType(32), 0))
            everywhere = body.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(ir.IntType(32), block), None))
            result = body.b.fptrunc(body.b.fmul(result, everywhere), body.vector)
        body.store(result, body.floats(body.pointer(1), body.mul(unit, block)))
    return body.text()
