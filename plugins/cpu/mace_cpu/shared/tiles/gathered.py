"""Rows of the left operand made of the bytes that meet weights; see `kept_bytes`."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, I64, Body
from mace_cpu.shared.codegen.vector_basic import call

PLACE_BYTES = 8
"""Of a gather: two int32."""


class GatheredRows:
    """Memory for ``rows`` rows of gathered bytes.

    Attributes:
        starts: the address of each row.
    """

    def __init__(self, body: Body, at: ir.Value, rows: int, row_bytes: int, window: int, *, is_x86: bool) -> None:
        self._body, self._window = body, window
        self._vector = ir.VectorType(I8, window)
        self._permutation = "llvm.aarch64.neon.tbl1.v16i8"
        if is_x86:
            wide = f"llvm.x86.avx512.permvar.qi.{8 * window}"
            self._permutation = wide if window > 16 else "llvm.x86.ssse3.pshuf.b.128"
        self.starts = [self._at(at, ir.Constant(I64, row * row_bytes)) for row in range(rows)]

    def gather(self, sources: Sequence[ir.Value], indices: ir.Value, places: ir.Value, count: ir.Value) -> None:
        """Fill the rows by ``count`` permutations of windows of the runs at ``sources``."""
        body, b = self._body, self._body.b
        with body.loop(0, count) as number:
            place = self._at(places, body.mul(number, PLACE_BYTES))
            source, target = (
                b.sext(b.load(b.gep(place, [ir.Constant(I64, i)], source_etype=I32), typ=I32, align=4), I64)
                for i in range(2)
            )
            index = b.load(self._at(indices, body.mul(number, self._window)), typ=self._vector, align=1)
            for run, start in zip(sources, self.starts, strict=True):
                window = b.load(self._at(run, source), typ=self._vector, align=1)
                kept = call(b, self._permutation, self._vector, [window, index])
                b.store(kept, self._at(start, target), align=1)

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self._body.b.gep(base, [index], inbounds=True, source_etype=I8)
