"""Register tiles whose operands are pairs of bfloat16: each word of the operands holds two steps of the sum."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.bfloat16 import add_pair_products
from mace_cpu.shared.codegen.body import Body
from mace_cpu.shared.precision import Bfloat16Unit
from mace_cpu.shared.tiles.matrix_tile import MatrixTile
from mace_cpu.shared.tiles.tile import Tile


class PairTile(Tile):
    """A tile of vectors; a step takes one word per row and one vector of words per column vector."""

    def __init__(self, body: Body, rows: int, vectors: int, *, by_instruction: bool) -> None:
        super().__init__(body, rows, vectors)
        self._by_instruction = by_instruction

    def accumulate(self, row: int, v: int, left: ir.Value, right: ir.Value) -> None:
        cell = self._cells[row][v]
        total = self.body.b.load(cell, typ=self.body.vector)
        added = add_pair_products(self.body, left, right, total, by_instruction=self._by_instruction)
        self.body.b.store(added, cell)


def make_tile(body: Body, rows: int, vectors: int, unit: Bfloat16Unit | None) -> Tile | MatrixTile:
    """The tile for float32 (``unit`` None) or pairs of bfloat16; made in the entry block."""
    if unit is None:
        return Tile(body, rows, vectors)
    if unit.has_tiles:
        return MatrixTile(body, rows, vectors, by_instruction=unit is Bfloat16Unit.AMX)
    return PairTile(body, rows, vectors, by_instruction=unit in (Bfloat16Unit.AVX512, Bfloat16Unit.NEON))
