"""Copying and filling bytes."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.body import I1, I8, I64, POINTER, VOID, Body, constant

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
