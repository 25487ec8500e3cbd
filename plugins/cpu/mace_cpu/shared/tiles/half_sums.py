"""Sums of products of eight float16 that are carried to a tile of float32."""

from __future__ import annotations

from llvmlite import ir

from mace_cpu.shared.codegen.float16 import F16, HALVES, multiply_halves, multiply_long
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.tiles.tile import Tile


class HalfSums:
    """The sums of a tile of one vector of eight per row, between two times that they are carried on.

    With ``fmlal`` products go to the tile at once.
    """

    def __init__(self, tile: Tile, unit: PairUnit) -> None:
        self._tile = tile
        self._is_long = unit is PairUnit.LONG_HALF
        self._kind = ir.VectorType(F16, HALVES)
        body = tile.body
        self._sums = [] if self._is_long else [body.variable(self._kind) for _ in range(tile.rows)]
        with body.b.goto_entry_block():
            self._clear()

    def accumulate(self, row: int, v: int, left: ir.Value, right: ir.Value) -> None:
        """Add ``left * right``, vectors of eight float16, to a sum."""
        if self._is_long:
            self._tile.put(row, v, multiply_long(self._tile.body, left, right, self._tile.cell(row, v)))
            return
        cell = self._sums[row]
        total = self._tile.body.b.load(cell, typ=self._kind)
        self._tile.body.b.store(multiply_halves(self._tile.body, left, right, total), cell)

    def carry(self) -> None:
        """Add the sums to those of the tile, and begin anew."""
        body = self._tile.body
        for row, cell in enumerate(self._sums):
            total = body.b.fpext(body.b.load(cell, typ=self._kind), body.vector)
            self._tile.put(row, 0, body.b.fadd(self._tile.cell(row, 0), total))
        self._clear()

    def _clear(self) -> None:
        for cell in self._sums:
            self._tile.body.b.store(ir.Constant(self._kind, None), cell)
