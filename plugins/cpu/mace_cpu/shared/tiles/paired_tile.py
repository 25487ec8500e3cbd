"""The tile of convolutions and products of bytes where a processor multiplies matrices of 2 x 8 by 8 x 2 bytes.

An accumulator holds the sums of two rows and two columns.  Two rows of the left operand are brought together, eight
bytes of each, when they are loaded; the right operand is packed in eights of a column (`pack_quads` with ``size`` 8).
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, I64, Body, constant
from mace_cpu.shared.codegen.vector_basic import call
from mace_cpu.shared.quads import EIGHT, QUAD
from mace_cpu.shared.tiles.arguments import STEPS_BETWEEN_FETCHES
from mace_cpu.shared.tiles.tile import FetchAhead

_INT_BYTES = 4
_VECTOR_BYTES = 16
_QUADS = _VECTOR_BYTES // QUAD
_PAIR = EIGHT // QUAD
_FIRST_ROW, _SECOND_ROW = [0, 1, 4, 5], [2, 3, 6, 7]
"""Of two accumulators side by side, the lanes of a row; and of two rows, those of an accumulator."""


class PairedTile:
    """Sums of ``rows`` x ``vectors`` vectors of int32, by ``smmla`` or ``usmmla``; takes the place of a `QuadTile`.

    Attributes:
        vector: the type of a vector of sums.
        columns: sums of one row: ``vectors * lanes``.
        step_bytes: of the right operand per quad, ``4 * columns``.
    """

    def __init__(self, body: Body, rows: int, vectors: int, *, left_is_signed: bool) -> None:
        self.body = body
        self.rows, self.vectors = rows, vectors
        self.columns = vectors * body.lanes
        self.step_bytes = QUAD * self.columns
        self.vector = ir.VectorType(I32, body.lanes)
        self._name = f"llvm.aarch64.neon.{'s' if left_is_signed else 'us'}mmla.v4i32.v16i8"
        self._bytes_type, self._eights = ir.VectorType(I8, _VECTOR_BYTES), ir.VectorType(I64, 2)
        # the last row of an odd number is multiplied twice
        self._pairs = [(row, min(row + 1, rows - 1)) for row in range(0, rows, 2)]
        self._cells = [[body.variable(self.vector) for _ in range(2 * vectors)] for _ in self._pairs]

    def start(self, *initial: Sequence[ir.Value]) -> None:
        """Set every row to ``initial``: one vector of int32 per column vector; of several, each for an equal share."""
        b, share = self.body.b, self.rows // len(initial)
        for (first, second), cells in zip(self._pairs, self._cells, strict=True):
            rows = initial[first // share], initial[second // share]
            for v in range(self.vectors):
                for half, lanes in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
                    b.store(self.body.shuffle(rows[0][v], rows[1][v], lanes), cells[2 * v + half])

    def settle(self) -> None:
        """Nothing is accumulated any more; accumulators in vectors need nothing done."""

    def close(self) -> None:
        """At the end of the kernel; vectors need nothing done."""

    def cell(self, row: int, v: int) -> ir.Value:
        """The present sums of one row and column vector."""
        pair = self._cells[row // 2]
        left, right = (self.body.b.load(cell, typ=self.vector) for cell in pair[2 * v : 2 * v + 2])
        return self.body.shuffle(left, right, _SECOND_ROW if row % 2 else _FIRST_ROW)

    def put_aside(self, at: ir.Value) -> None:
        """Store the sums, row by row."""
        for row in range(self.rows):
            for v in range(self.vectors):
                place = self._at(at, (row * self.vectors + v) * _INT_BYTES * self.body.lanes)
                self.body.b.store(self.cell(row, v), place, align=_INT_BYTES)

    def run(
        self,
        starts: Sequence[ir.Value],
        right: ir.Value,
        quads: ir.Value,
        tail: int = 0,
        ahead: FetchAhead | None = None,
        unroll: int = 1,
    ) -> None:
        """As `QuadTile.run`, over an even number of quads and no tail; it always takes four quads together.

        Raises:
            ValueError: there is a tail.
        """
        if tail:
            raise ValueError("a tile of pairs multiplies whole eights of bytes")
        body = self.body

        def steps(first: ir.Value, last: ir.Value) -> None:
            whole = body.add(first, body.b.and_(body.sub(last, first), constant(-_QUADS)))
            with body.loop(first, whole, _QUADS) as k:
                at = body.mul(k, QUAD)
                self._multiply(self._woven(starts, at), self._at(right, body.mul(k, self.step_bytes)))
            with body.loop(whole, last, _PAIR) as k:
                at = body.mul(k, QUAD)
                self._multiply([self._eights_of(starts, at)], self._at(right, body.mul(k, self.step_bytes)))

        if ahead is None:
            steps(constant(0), quads)
            return
        with body.loop(0, quads, STEPS_BETWEEN_FETCHES) as first:
            last = body.minimum(body.add(first, STEPS_BETWEEN_FETCHES), quads)
            ahead.fetch_for(body.sub(last, first))
            steps(first, last)

    def _woven(self, starts: Sequence[ir.Value], at: ir.Value) -> list[list[ir.Value]]:
        """For the first eight bytes of each row, and the next: the left operand of each pair of rows."""
        b = self.body.b
        loaded = [b.load(self._at(start, at), typ=self._eights, align=1) for start in starts]
        return [
            [self.body.shuffle(loaded[one], loaded[other], lanes) for one, other in self._pairs]
            for lanes in ([0, 2], [1, 3])
        ]

    def _eights_of(self, starts: Sequence[ir.Value], at: ir.Value) -> list[ir.Value]:
        b, found = self.body.b, []
        loaded = [b.load(self._at(start, at), typ=I64, align=1) for start in starts]
        for one, other in self._pairs:
            first = b.insert_element(ir.Constant(self._eights, ir.Undefined), loaded[one], ir.Constant(I32, 0))
            found.append(b.insert_element(first, loaded[other], ir.Constant(I32, 1)))
        return found

    def _multiply(self, lefts: Sequence[Sequence[ir.Value]], right: ir.Value) -> None:
        b = self.body.b
        for number, left in enumerate(lefts):
            operands = [b.bitcast(pair, self._bytes_type) for pair in left]
            for column in range(2 * self.vectors):
                offset = number * EIGHT * self.columns + column * _VECTOR_BYTES
                weights = b.load(self._at(right, offset), typ=self._bytes_type, align=1)
                for operand, cells in zip(operands, self._cells, strict=True):
                    total = b.load(cells[column], typ=self.vector)
                    b.store(call(b, self._name, self.vector, [total, operand, weights]), cells[column])

    def _at(self, base: ir.Value, index: ir.Value | int) -> ir.Value:
        at = constant(index) if isinstance(index, int) else index
        return self.body.b.gep(base, [at], inbounds=True, source_etype=I8)
