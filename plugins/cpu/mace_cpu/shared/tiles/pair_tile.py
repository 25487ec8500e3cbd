"""Register tiles whose operands are pairs of 16-bit floats: each word of the operands holds two steps of the sum."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.body import Body
from mace_cpu.shared.codegen.pairs import add_pair_products
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.tiles.half_tile import HalfTile
from mace_cpu.shared.tiles.matrix_tile import MatrixTile
from mace_cpu.shared.tiles.tile import Tile


class PairTile(Tile):
    """A tile of vectors; a step takes one word per row and one vector of words per column vector."""

    def __init__(self, body: Body, rows: int, vectors: int, unit: PairUnit) -> None:
        super().__init__(body, rows, vectors)
        self._unit = unit

    def accumulate(self, row: int, v: int, left: ir.Value, right: ir.Value) -> None:
        cell = self._cells[row][v]
        total = self.body.b.load(cell, typ=self.body.vector)
        self.body.b.store(add_pair_products(self.body, left, right, total, self._unit), cell)


def make_tile(body: Body, rows: int, vectors: int, unit: PairUnit | None) -> Tile | MatrixTile:
    """The tile for float32 (``unit`` None) or pairs of 16-bit floats; made in the entry block."""
    if unit is None:
        return Tile(body, rows, vectors)
    if unit.has_tiles:
        return MatrixTile(body, rows, vectors, by_instruction=unit is PairUnit.AMX)
    if unit.takes_halves:
        return HalfTile(body, rows, vectors, unit)
    return PairTile(body, rows, vectors, unit)
