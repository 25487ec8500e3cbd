"""What multiplies a product of bytes, and tiles of what size: vectors, or tile registers where those are faster."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.target import Target
from mace_core.symbolic import ceiling, hint, is_symbolic
from mace_cpu.matmul.product import Product
from mace_cpu.quantized.convolution.choose import tile_cost
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.quads import EIGHT, QUAD, QUADS_PER_TILE, QuadUnit
from mace_cpu.shared.tiles.choose import fitting_matrix_rows, fitting_rows, has_many_registers

MATRIX_VECTORS = 2
"""Tile registers side by side for the right operand."""

MATRIX_SETUP = 200.0
"""Cycles to take the tile registers and to give them up again."""


@dataclass(frozen=True, slots=True)
class Panels:
    """How the right operand is laid out for the unit that multiplies it.

    Attributes:
        unit: what multiplies.
        vectors, width: of a panel: vectors, and columns.
        quads_together: whose multiple of quads a panel has; those that are filled up are zero.
    """

    unit: QuadUnit
    vectors: int
    width: int
    quads_together: int = 1

    def quads(self, steps: int) -> int:
        """Quads of a panel of so many steps."""
        return ceiling(steps, QUAD * self.quads_together) * self.quads_together

    def rows(self, target: Target, rows: int) -> int:
        """The height of the tile that computes so many rows; operands and sums stay in registers."""
        if self.unit.has_tiles:
            return fitting_matrix_rows(rows)
        most = 6 if self.vectors == 4 or has_many_registers(target) else 4
        if self.unit is QuadUnit.DOT:
            most = 5  # a register more for each row
        if self.unit in (QuadUnit.MMLA, QuadUnit.LONG):
            most = 4
        return fitting_rows(rows, most, self.vectors)


def choose_panels(settings: Settings, product: Product, *, is_known: bool = False) -> Panels:
    """The panels of the unit that is expected to be the fastest for a product.

    Args:
        is_known: whether the right operand is packed now; that changes the unit, but no panel's width.
    """
    target = settings.target
    lanes = max(target.vector_bits // 32, 4)
    unit = QuadUnit.of(target)
    is_narrow = unit in (QuadUnit.VNNI, QuadUnit.DOT)
    vectors = 4 if is_narrow and has_many_registers(target) else 2
    found = Panels(unit, vectors, vectors * lanes)
    if settings.byte_tiles is None:
        return found
    if settings.byte_tiles is QuadUnit.MMLA:
        if is_symbolic(product.steps) or product.steps % EIGHT or not is_known:
            return found
        tiles = Panels(QuadUnit.MMLA, vectors, vectors * lanes, QuadUnit.MMLA.together)
        return min(found, tiles, key=lambda panels: _cost(target, panels, product))
    vectors = 1 if hint(product.columns) <= lanes else MATRIX_VECTORS
    tiles = Panels(settings.byte_tiles, vectors, vectors * lanes, QUADS_PER_TILE)
    return min(found, tiles, key=lambda panels: _cost(target, panels, product))


def _cost(target: Target, panels: Panels, product: Product) -> float:
    """Cycles for the products."""
    rows, columns, steps = hint(product.rows), hint(product.columns), hint(product.steps)
    tile = panels.rows(target, rows), panels.vectors
    one = tile_cost(target, panels.unit, tile, rows, columns, panels.quads(steps), in_place=True)
    return hint(product.count) * one + (MATRIX_SETUP if panels.unit.has_tiles else 0.0)
