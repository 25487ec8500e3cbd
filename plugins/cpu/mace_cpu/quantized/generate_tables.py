"""A kernel that looks bytes up in a table of 256 bytes: 64 at a time where there is an instruction for it."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import I8, I64, Body, constant
from mace_cpu.shared.codegen.vector_basic import call

BYTES = 64
UNROLLED = 8


def build(symbol: str, target: Target) -> str:
    """IR; one unit is some bytes, the last one may be shorter."""
    body = Body(symbol, 16)
    b = body.b
    source, result, table = (body.pointer(i) for i in range(3))
    nbytes, unit = body.word(3), body.word(4)
    start = body.mul(body.begin, unit)
    stop = body.minimum(body.mul(body.end, unit), nbytes)

    def at(base: ir.Value, index: ir.Value) -> ir.Value:
        return b.gep(base, [index], inbounds=True, source_etype=I8)

    def look_up(index: ir.Value) -> None:
        byte = b.zext(b.load(at(source, index), typ=I8, align=1), I64)
        b.store(b.load(at(table, byte), typ=I8, align=1), at(result, index), align=1)

    at_once = BYTES if target.has("avx512vbmi") and target.vector_bits >= 512 else UNROLLED
    whole = body.add(start, b.and_(body.sub(stop, start), constant(-at_once)))
    if at_once == BYTES:
        kind = ir.VectorType(I8, BYTES)
        quarters = [b.load(at(table, constant(BYTES * i)), typ=kind, align=1) for i in range(4)]
        with body.loop(start, whole, BYTES) as index:
            codes = b.load(at(source, index), typ=kind, align=1)
            low, high = (
                call(b, "llvm.x86.avx512.vpermi2var.qi.512", kind, [quarters[i], codes, quarters[i + 1]])
                for i in (0, 2)
            )
            is_high = b.icmp_signed("<", codes, ir.Constant(kind, None))
            b.store(b.select(is_high, high, low), at(result, index), align=1)
    else:
        with body.loop(start, whole, UNROLLED) as index:
            for i in range(UNROLLED):
                look_up(body.add(index, i))
    with body.loop(whole, stop) as index:
        look_up(index)
    return body.text()
