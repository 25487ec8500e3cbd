"""Local response normalization over neighboring channels.

Work units are channels of images.
"""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import constant as integer
from mace_cpu.shared.codegen.rows import RowBody
from mace_cpu.shared.codegen.vector_basic import constant, fma
from mace_cpu.shared.codegen.vector_math import exp, log


def build(symbol: str, dtype: str, target: Target) -> str:
    body = RowBody(symbol, target, dtype)
    b = body.b
    source, result = body.pointer(0), body.pointer(1)
    channels, inner, before, after = (body.word(i) for i in range(2, 6))
    alpha, bias, beta = (body.real(i) for i in range(6, 9))
    total = body.variable(body.vector)
    with body.loop(body.begin, body.end) as unit:
        image, channel = body.divide(unit, channels)
        x = body.at(source, body.mul(body.mul(image, channels), inner))
        y = body.at(result, body.mul(unit, inner))
        first = body.maximum(body.sub(channel, before), integer(0))
        stop = body.minimum(body.add(body.add(channel, after), 1), channels)

        def step(
            i: ir.Value, rest: ir.Value | None, *, x: ir.Value = x, y: ir.Value = y, channel: ir.Value = channel
        ) -> None:
            b.store(constant(body.vector, 0.0), total)
            with body.loop(first, stop) as other:
                value = body.read(x, body.add(body.mul(other, inner), i), rest)
                b.store(fma(b, value, value, body.held(total)), total)
            value = body.read(x, body.add(body.mul(channel, inner), i), rest)
            base = fma(b, body.held(total), alpha, bias)
            power = exp(b, b.fmul(b.fneg(beta), log(b, base)))
            body.write(b.fmul(value, power), y, i, rest)

        body.each(inner, step)
    return body.text()
