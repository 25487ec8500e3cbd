"""Kernels that look numbers up in a table: bytes 64 at a time where an instruction does it, others one by one."""

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


def build_plain(symbol: str, source_bits: int, result_bits: int, _target: Target) -> str:
    """IR, as `build`, for numbers of any width."""
    body = Body(symbol, 4)
    b = body.b
    source, result, table = (body.pointer(i) for i in range(3))
    size, unit = body.word(3), body.word(4)
    start = body.mul(body.begin, unit)
    stop = body.minimum(body.mul(body.end, unit), size)
    given, made = ir.IntType(source_bits), ir.IntType(result_bits)

    def at(base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        return b.gep(base, [index], inbounds=True, source_etype=kind)

    def look_up(first: ir.Value, count: int) -> None:
        indices = [body.add(first, i) for i in range(count)]
        numbers = [b.zext(b.load(at(source, i, given), typ=given, align=1), I64) for i in indices]
        entries = [b.load(at(table, number, made), typ=made, align=1) for number in numbers]
        for i, entry in zip(indices, entries, strict=True):
            b.store(entry, at(result, i, made), align=1)

    whole = body.add(start, b.and_(body.sub(stop, start), constant(-UNROLLED)))
    with body.loop(start, whole, UNROLLED) as index:
        look_up(index, UNROLLED)
    with body.loop(whole, stop) as index:
        look_up(index, 1)
    return body.text()
