"""The register tile of convolutions and products of bytes: rows x (vectors of columns) of int32 accumulators.

One step multiplies a quad (four bytes) of each row of the left operand, in all lanes, with quads of all columns of the
right one, which `pack_quads` packs.  Sums are exact; that they stay within int32 is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, LANES_TOGETHER, Body, constant
from mace_cpu.shared.codegen.quads import Operand, QuadDot, load_quad
from mace_cpu.shared.quads import QUAD, QuadUnit
from mace_cpu.shared.tiles.arguments import STEPS_BETWEEN_FETCHES, STEPS_PER_FETCH
from mace_cpu.shared.tiles.tile import FetchAhead

INT_BYTES = 4


class QuadTile:
    """Accumulators of ``rows`` x ``vectors`` vectors of int32.

    Attributes:
        vector: the type of an accumulator.
        columns: int32 of one row: ``vectors * lanes``.
        step_bytes: of the right operand per step, ``4 * columns``.
    """

    def __init__(self, body: Body, rows: int, vectors: int, unit: QuadUnit, *, left_is_signed: bool) -> None:
        self.body = body
        self.dot = QuadDot(body, unit, left_is_signed=left_is_signed)
        self.vector = self.dot.vector
        self.rows, self.vectors = rows, vectors
        self.columns = vectors * body.lanes
        self.step_bytes = QUAD * self.columns
        self._cells = [[body.variable(self.dot.accumulator) for _ in range(vectors)] for _ in range(rows)]

    def start(self, *initial: Sequence[ir.Value]) -> None:
        """Set every row to ``initial``: one vector of int32 per column vector; of several, each for an equal share."""
        for number, row in enumerate(self._cells):
            for cell, value in zip(row, initial[number * len(initial) // self.rows], strict=True):
                self.body.b.store(self.dot.begin(value), cell)

    def settle(self) -> None:
        """Nothing is accumulated any more; accumulators in vectors need nothing done."""

    def close(self) -> None:
        """At the end of the kernel; vectors need nothing done."""

    def cell(self, row: int, v: int) -> ir.Value:
        """The present value of one accumulator."""
        return self.dot.sums(self.body.b.load(self._cells[row][v], typ=self.dot.accumulator))

    def put_aside(self, at: ir.Value) -> None:
        """Store the sums, row by row."""
        for i, cell in enumerate(cell for row in self._cells for cell in row):
            place = self._bytes(at, i * INT_BYTES * self.body.lanes)
            sums = self.dot.sums(self.body.b.load(cell, typ=self.dot.accumulator))
            self.body.b.store(sums, place, align=INT_BYTES)

    def take_up(self, at: ir.Value) -> None:
        """Go on from accumulators put aside."""
        for i, cell in enumerate(cell for row in self._cells for cell in row):
            place = self._bytes(at, i * INT_BYTES * self.body.lanes)
            sums = self.body.b.load(place, typ=self.dot.vector, align=INT_BYTES)
            self.body.b.store(self.dot.begin(sums), cell)

    def step(self, quad: Callable[[int], ir.Value], right: ir.Value) -> None:
        """Accumulate the product of ``quad(row)`` (an int32) with one step of the right operand, at an address."""
        b, lanes = self.body.b, self.body.lanes
        columns = [
            self.dot.right(b.load(self._bytes(right, v * QUAD * lanes), typ=self.dot.vector, align=INT_BYTES))
            for v in range(self.vectors)
        ]
        for number, row in enumerate(self._cells):
            left = self.dot.left(quad(number))  # loaded just before its use: all at once they take all registers
            for cell, column in zip(row, columns, strict=True):
                b.store(self.dot.add(b.load(cell, typ=self.dot.accumulator), left, column), cell)

    def lane_steps(self, left: Callable[[int], ir.Value], right: ir.Value) -> None:
        """As `LANES_TOGETHER` steps: the address of as many quads of each row, and of that many steps of the right
        operand."""
        b, lanes = self.body.b, self.body.lanes
        kind = ir.VectorType(I32, LANES_TOGETHER)
        rows = [b.load(left(row), typ=kind, align=1) for row in range(self.rows)]
        if self.dot.changes_left:
            rows = [self.dot.changed(row) for row in rows]
        for lane in range(LANES_TOGETHER):
            for v in range(self.vectors):
                at = self._bytes(right, lane * self.step_bytes + v * QUAD * lanes)
                column = self.dot.right(b.load(at, typ=self.dot.vector, align=INT_BYTES))
                for r, quads in enumerate(rows):
                    self.accumulate(r, v, [self.body.shuffle(quads, quads, [lane] * lanes)], column)

    def accumulate(self, row: int, v: int, left: Operand, right: Operand) -> None:
        """Add the dot products of ``left`` and ``right``, as `dot` has them, to one accumulator."""
        cell = self._cells[row][v]
        self.body.b.store(self.dot.add(self.body.b.load(cell, typ=self.dot.accumulator), left, right), cell)

    def run(
        self,
        starts: Sequence[ir.Value],
        right: ir.Value,
        quads: ir.Value,
        tail: int = 0,
        ahead: FetchAhead | None = None,
        unroll: int = 1,
    ) -> None:
        """Steps over ``quads`` whole quads of consecutive bytes of each row, and over ``tail`` (0 to 3) more bytes.

        Args:
            starts: the address of each row of the left operand.
            right: the address of the first step of the right operand.
            quads: how many; may be 0.
            tail: bytes that are left of the last quad: the right operand has zeros for the others.
            ahead: fetches a little every few steps.
            unroll: steps per turn of the loop; more than 1 only where the accumulators leave some registers free.
        """
        body = self.body

        def one_step(k: ir.Value, count: int) -> None:
            at = body.mul(k, QUAD)
            self.step(
                lambda row: load_quad(body, self._bytes(starts[row], at), count),
                self._bytes(right, body.mul(k, self.step_bytes)),
            )

        def steps(first: ir.Value, last: ir.Value) -> None:
            whole = first
            if self.dot.takes_lanes:
                whole = body.add(first, body.b.and_(body.sub(last, first), constant(-LANES_TOGETHER)))
                with body.loop(first, whole, LANES_TOGETHER) as k:
                    at = body.mul(k, QUAD)
                    self.lane_steps(
                        lambda row: self._bytes(starts[row], at), self._bytes(right, body.mul(k, self.step_bytes))
                    )
            elif unroll > 1:
                whole = body.add(first, body.b.and_(body.sub(last, first), constant(-unroll)))
                with body.loop(first, whole, unroll) as k:
                    for u in range(unroll):
                        one_step(body.add(k, u), QUAD)
            with body.loop(whole, last) as k:
                one_step(k, QUAD)

        if ahead is None:
            steps(constant(0), quads)
        elif self.dot.takes_lanes:
            with body.loop(0, quads, STEPS_BETWEEN_FETCHES) as first:
                last = body.minimum(body.add(first, STEPS_BETWEEN_FETCHES), quads)
                ahead.fetch_for(body.sub(last, first))
                steps(first, last)
        else:
            with body.loop(0, quads, STEPS_PER_FETCH) as first:
                ahead.fetch()
                steps(first, body.minimum(body.add(first, STEPS_PER_FETCH), quads))
        if tail:
            one_step(quads, tail)

    def _bytes(self, base: ir.Value, index: ir.Value | int) -> ir.Value:
        at = constant(index) if isinstance(index, int) else index
        return self.body.b.gep(base, [at], inbounds=True, source_etype=I8)
