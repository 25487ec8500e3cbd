"""Moving the bytes of the left operand that meet weights together; see `kept_bytes`."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, I64, Body
from mace_cpu.shared.codegen.vector_basic import call

PLACE_BYTES = 8
"""Of a permutation: two int32."""

NARROWEST = 16
"""Bytes of a window."""


class Gathering:
    """Permutations that move the bytes kept of runs together.

    Args:
        window: bytes that one takes.
        stored: bytes of a result that are stored.
    """

    def __init__(self, body: Body, window: int, stored: int, *, is_x86: bool) -> None:
        self._body, self._window, self._stored = body, window, stored
        self._vector = ir.VectorType(I8, window)
        self._permutation = "llvm.aarch64.neon.tbl1.v16i8"
        if is_x86:
            wide = f"llvm.x86.avx512.permvar.qi.{8 * window}"
            self._permutation = wide if window > NARROWEST else "llvm.x86.ssse3.pshuf.b.128"

    def rows(
        self,
        sources: Sequence[ir.Value],
        targets: Sequence[ir.Value],
        indices: ir.Value,
        places: ir.Value,
        count: ir.Value,
    ) -> None:
        """Move the bytes kept of the runs at ``sources`` to ``targets``, by ``count`` permutations of each."""
        body, b = self._body, self._body.b
        with body.loop(0, count) as number:
            place = self._at(places, body.mul(number, PLACE_BYTES))
            source, target = (
                b.sext(b.load(b.gep(place, [ir.Constant(I64, i)], source_etype=I32), typ=I32, align=4), I64)
                for i in range(2)
            )
            index = b.load(self._at(indices, body.mul(number, self._window)), typ=self._vector, align=1)
            for run, start in zip(sources, targets, strict=True):
                window = b.load(self._at(run, source), typ=self._vector, align=1)
                kept = call(b, self._permutation, self._vector, [window, index])
                if self._stored < self._window:
                    first = ir.Constant(ir.VectorType(I32, self._stored), list(range(self._stored)))
                    kept = b.shuffle_vector(kept, kept, first)
                b.store(kept, self._at(start, target), align=1)

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self._body.b.gep(base, [index], inbounds=True, source_etype=I8)
