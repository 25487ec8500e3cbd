"""A kernel that copies bytes."""

from __future__ import annotations

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import I1, I64, POINTER, VOID, Body


def build(symbol: str, _target: Target) -> str:
    """IR of a copy; the last unit may be shorter."""
    body = Body(symbol, 4)
    source, target, nbytes, unit_bytes = body.pointer(0), body.pointer(1), body.word(2), body.word(3)
    first = body.mul(body.begin, unit_bytes)
    stop = body.minimum(body.mul(body.end, unit_bytes), nbytes)
    kind = ir.FunctionType(VOID, [POINTER, POINTER, I64, I1])
    move = ir.Function(body.module, kind, "llvm.memcpy.p0.p0.i64")
    step = [body.b.gep(p, [first], source_etype=ir.IntType(8)) for p in (target, source)]
    body.b.call(move, [*step, body.sub(stop, first), ir.Constant(I1, 0)])
    return body.text()
