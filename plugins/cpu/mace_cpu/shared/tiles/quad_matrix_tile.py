"""The tile of convolutions and products of bytes in the tile registers of AMX; see `matrix_tile` for the registers.

A row of a register holds 16 quads of one row of the left operand, or one quad of 16 columns of the right one, as
`pack_quads` packs them.  Where rows of the left operand may lie anywhere, 64 bytes of each are brought together in
memory first, which takes less time than the multiplications that they serve.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from mace_cpu.shared.codegen.body import I1, I8, I32, POINTER, Body, constant
from mace_cpu.shared.codegen.quads import QuadDot
from mace_cpu.shared.quads import QUAD, QUADS_PER_TILE, QuadUnit
from mace_cpu.shared.tiles.matrix_tile import (
    LEFT,
    MOST_ROWS,
    MOST_VECTORS,
    REGISTER_ROWS,
    REGISTER_WORDS,
    RIGHT,
    Emulation,
    Instructions,
    register_heights,
    sum_register,
)
from mace_cpu.shared.tiles.paired_tile import PairedTile
from mace_cpu.shared.tiles.quad_tile import INT_BYTES, QuadTile
from mace_cpu.shared.tiles.tile import FetchAhead

ROW_BYTES = QUAD * QUADS_PER_TILE


class QuadMatrixTile:
    """Sums of ``rows`` x ``vectors`` vectors of 16 int32; takes the place of a `QuadTile`.

    Attributes:
        vector: the type of a vector of sums.
        columns: sums of one row: ``vectors * 16``.
        step_bytes: of the right operand per step, ``4 * columns``.
    """

    def __init__(self, body: Body, rows: int, vectors: int, unit: QuadUnit, *, left_is_signed: bool) -> None:
        if not 1 <= rows <= MOST_ROWS or not 1 <= vectors <= MOST_VECTORS or body.lanes != REGISTER_WORDS:
            raise ValueError(f"a tile of {rows} rows and {vectors} vectors of {body.lanes} does not fit AMX registers")
        self.body = body
        self.rows, self.vectors = rows, vectors
        self.columns = vectors * body.lanes
        self.step_bytes = QUAD * self.columns
        dot = QuadDot(body, QuadUnit.LANES, left_is_signed=left_is_signed)
        self.vector = dot.vector
        self._sums = body.memory(ir.ArrayType(body.vector, rows * vectors))
        self._rows = body.memory(ir.ArrayType(body.vector, rows))
        self._initial: list[list[ir.Value]] = []
        self._heights, heights = register_heights(rows, vectors)
        self._registers: Instructions | Emulation
        if unit is QuadUnit.AMX:
            self._registers = Instructions(body, f"llvm.x86.tdpb{'s' if left_is_signed else 'u'}sd")
        else:
            self._registers = Emulation(body, lambda left, right, total: _add_quads(body, dot, left, right, total))
        self._registers.open(heights)

    def close(self) -> None:
        """At the end of the kernel: give the registers up, so that nobody has to save them."""
        self._registers.close()

    def start(self, *initial: Sequence[ir.Value]) -> None:
        """Set rows to ``initial`` (one vector per column vector; of several each for an equal share), which is added at
        the end."""
        if not self._initial:
            self._initial = [[self.body.variable(self.vector) for _ in one] for one in initial]
        for cells, values in zip(self._initial, initial, strict=True):
            for cell, value in zip(cells, values, strict=True):
                self.body.b.store(value, cell)
        for v in range(self.vectors):
            for group in range(len(self._heights)):
                self._registers.clear(sum_register(group, v))

    def run(
        self,
        starts: Sequence[ir.Value],
        right: ir.Value,
        quads: ir.Value,
        tail: int = 0,
        ahead: FetchAhead | None = None,
        unroll: int = 1,
    ) -> None:
        """As `QuadTile.run`, over a number of quads that `QUADS_PER_TILE` divides, without a tail."""
        assert tail == 0, "the tile registers take whole rows"
        body = self.body
        with body.loop(0, quads, QUADS_PER_TILE) as k:
            if ahead is not None:
                ahead.fetch()
            at = body.mul(k, QUAD)
            for row, start in enumerate(starts):
                body.store(body.load(self._at(start, at)), body.floats(self._rows, row * body.lanes))
            self._multiply(self._rows, constant(ROW_BYTES), self._at(right, body.mul(k, self.step_bytes)))

    def run_apart(
        self, first: ir.Value, apart: ir.Value, right: ir.Value, quads: ir.Value, rest: ir.Value | None = None
    ) -> None:
        """As `run` for rows at one distance, which are read where they lie.

        Args:
            first: the address of the first row.
            apart: bytes from row to row.
            right: the address of the first step of the right operand.
            quads: how many; `QUADS_PER_TILE` divides them; may be 0.
            rest: bytes (1 to 63) that are left of each row: the right operand has zeros for those that a register has
                besides.  None: there are none.
        """
        body = self.body
        with body.loop(0, quads, QUADS_PER_TILE) as k:
            self._multiply(self._at(first, body.mul(k, QUAD)), apart, self._at(right, body.mul(k, self.step_bytes)))
        if rest is None:
            return
        start = self._at(first, body.mul(quads, QUAD))
        mask = body.b.bitcast(
            body.b.lshr(constant(-1), body.sub(constant(ROW_BYTES), rest)), ir.VectorType(I1, ROW_BYTES)
        )
        for row in range(self.rows):
            body.b.store(
                self._load_some(self._at(start, body.mul(apart, row)), mask),
                body.floats(self._rows, row * body.lanes),
                align=INT_BYTES,
            )
        self._multiply(self._rows, constant(ROW_BYTES), self._at(right, body.mul(quads, self.step_bytes)))

    def settle(self) -> None:
        """Nothing is accumulated any more: from here on `cell` gives the sums."""
        for group in range(len(self._heights)):
            for v in range(self.vectors):
                first = group * REGISTER_ROWS * self.columns + v * self.body.lanes
                place = self.body.floats(self._sums, first)
                self._registers.store(sum_register(group, v), place, constant(INT_BYTES * self.columns))

    def cell(self, row: int | ir.Value, v: int) -> ir.Value:
        """One vector of sums, once they are settled; any row of theirs."""
        b, body = self.body.b, self.body
        place = body.floats(self._sums, body.add(body.mul(_word(row), self.columns), v * body.lanes))
        found = b.load(place, typ=self.vector, align=INT_BYTES)
        initial = self._initial[row * len(self._initial) // self.rows if isinstance(row, int) else 0]
        return b.add(found, b.load(initial[v], typ=self.vector))

    def _multiply(self, left: ir.Value, apart: ir.Value, right: ir.Value) -> None:
        """Accumulate the product of a register's bytes of each row with as many rows of the right operand."""
        body = self.body
        for group in range(len(self._heights)):
            start = self._at(left, body.mul(apart, group * REGISTER_ROWS))
            self._registers.load(LEFT + group, start, apart)
        for v in range(self.vectors):
            self._registers.load(RIGHT + v, body.floats(right, v * body.lanes), constant(self.step_bytes))
            for group in range(len(self._heights)):
                self._registers.multiply(sum_register(group, v), LEFT + group, RIGHT + v)

    def _load_some(self, at: ir.Value, mask: ir.Value) -> ir.Value:
        """The bytes in ``mask`` of those of a register's row, zeros elsewhere; no others are read."""
        kind = ir.VectorType(I8, ROW_BYTES)
        function = self.body.declared(
            f"llvm.masked.load.v{ROW_BYTES}i8.p0", ir.FunctionType(kind, [POINTER, I32, mask.type, kind])
        )
        return self.body.b.call(function, [at, ir.Constant(I32, 1), mask, ir.Constant(kind, None)])

    def _at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=I8)


def make_quad_tile(
    body: Body, rows: int, vectors: int, unit: QuadUnit, *, left_is_signed: bool
) -> QuadTile | QuadMatrixTile | PairedTile:
    """The tile of a unit; made in the entry block."""
    if unit is QuadUnit.MMLA:
        return PairedTile(body, rows, vectors, left_is_signed=left_is_signed)
    if unit.has_tiles:
        return QuadMatrixTile(body, rows, vectors, unit, left_is_signed=left_is_signed)
    return QuadTile(body, rows, vectors, unit, left_is_signed=left_is_signed)


def _add_quads(body: Body, dot: QuadDot, left: ir.Value, right: ir.Value, total: ir.Value) -> ir.Value:
    """The sum of products as the emulated registers hold it: vectors of floats by type."""
    b = body.b
    whole = [b.bitcast(value, dot.vector) for value in (left, right, total)]
    return b.bitcast(dot.add(whole[2], dot.left(whole[0]), dot.right(whole[1])), body.vector)


def _word(row: int | ir.Value) -> ir.Value:
    return constant(row) if isinstance(row, int) else row
