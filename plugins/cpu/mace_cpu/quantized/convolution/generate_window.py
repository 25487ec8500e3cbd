"""Copying, splitting and filling bytes."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.body import I1, I8, I64, POINTER, VOID, Body, constant

I16 = ir.IntType(16)

FLIP = -128
"""The highest bit of a byte."""


def fill_bytes(body: Body, target: ir.Value, byte: ir.Value, count: ir.Value) -> None:
    """Set ``count`` bytes."""
    kind = ir.FunctionType(VOID, [POINTER, I8, I64, I1])
    function = body.declared("llvm.memset.p0.i64", kind)
    body.b.call(function, [target, body.b.trunc(byte, I8), count, ir.Constant(I1, 0)])


def copy_bytes(
    body: Body, source: ir.Value, target: ir.Value, count: ir.Value, *, flips: bool, is_short: bool = False
) -> None:
    """Copy ``count`` bytes that do not overlap.

    Args:
        flips: with the highest bit of each changed.
        is_short: they are too few for a call.
    """
    b = body.b
    if not flips and not is_short:
        kind = ir.FunctionType(VOID, [POINTER, POINTER, I64, I1])
        b.call(body.declared("llvm.memcpy.p0.p0.i64", kind), [target, source, count, ir.Constant(I1, 0)])
        return
    size = 4 * body.lanes
    wide = ir.VectorType(I8, size)
    whole = b.and_(count, constant(-size))

    def move(at: ir.Value, kind: ir.Type, bits: ir.Constant) -> None:
        value = b.load(b.gep(source, [at], inbounds=True, source_etype=I8), typ=kind, align=1)
        b.store(b.xor(value, bits) if flips else value, b.gep(target, [at], inbounds=True, source_etype=I8), align=1)

    with body.loop(0, whole, size) as at:
        move(at, wide, ir.Constant(wide, [FLIP] * size))
    with body.loop(whole, count) as at:
        move(at, I8, ir.Constant(I8, FLIP))


PIECES = (64, 16)
"""Words that are split at a time, as long as there are so many."""


def split_words(
    body: Body, source: ir.Value, high: ir.Value, low: ir.Value, count: ir.Value, *, flips: int, is_short: bool
) -> None:
    """Bring the high and the low bytes of ``count`` words to two places.

    Args:
        flips: bits of the words that are changed.
        is_short: they are so few that large pieces are not worth their code.
    """
    b = body.b

    def change(value: ir.Value, bits: int) -> ir.Value:
        signed = bits - 256 if bits > 127 else bits
        return b.xor(value, ir.Constant(value.type, [signed] * value.type.count)) if bits else value

    def move(at: ir.Value, words: int) -> None:
        kind = ir.VectorType(I8, words)
        base = b.gep(source, [body.mul(at, 2)], inbounds=True, source_etype=I8)
        pair = [
            b.load(b.gep(base, [constant(half * words)], inbounds=True, source_etype=I8), typ=kind, align=1)
            for half in range(2)
        ]
        for place, first, bits in ((low, 0, flips & 255), (high, 1, flips >> 8)):
            part = change(body.shuffle(pair[0], pair[1], [2 * i + first for i in range(words)]), bits)
            b.store(part, b.gep(place, [at], inbounds=True, source_etype=I8), align=1)

    done: ir.Value = constant(0)
    for words in PIECES[is_short:]:
        whole = body.add(done, b.and_(body.sub(count, done), constant(-words)))
        with body.loop(done, whole, words) as at:
            move(at, words)
        done = whole
    with body.loop(done, count) as at:
        word = b.load(b.gep(source, [at], inbounds=True, source_etype=I16), typ=I16, align=1)
        word = b.xor(word, ir.Constant(I16, flips))
        for place, value in ((low, word), (high, b.lshr(word, ir.Constant(I16, 8)))):
            b.store(b.trunc(value, I8), b.gep(place, [at], inbounds=True, source_etype=I8), align=1)
