"""Register tiles of aarch64 whose operands are float16, with sums in float32.

A factor is one lane of eight float16 of a row, which meets eight columns.  With ``fmlal`` products are exact and added
to sums in float32.  Without it sums are float16, as wide as the factors: twice as many at a time.  What that loses
grows with the number of products summed, so that sums of a few products are added to sums in float32.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from mace_cpu.shared.codegen.body import FLOAT_BYTES, Body
from mace_cpu.shared.codegen.float16 import F16, HALVES, lane_of, multiply_halves, multiply_long
from mace_cpu.shared.precision import HALF_STEPS, PairUnit
from mace_cpu.shared.tiles.row_steps import opaque
from mace_cpu.shared.tiles.tile import Tile

_WORDS = HALVES // 2
"""Of a register: as many steps of two elements."""


class HalfTile(Tile):
    """A tile of vectors of eight; `HALF_STEPS` elements of a row, in half as many words, are taken together.

    Of the right operand, a row of words holds for each eight columns first the elements that meet the even ones of the
    left operand, then those that meet the odd ones.
    """

    def __init__(self, body: Body, rows: int, vectors: int, unit: PairUnit) -> None:
        """
        Raises:
            ValueError: vectors are not of eight floats.
        """
        if body.lanes != HALVES:
            raise ValueError(f"a tile of float16 has vectors of {HALVES}, not of {body.lanes}")
        super().__init__(body, rows, vectors)
        self.together = HALF_STEPS // 2
        self.is_whole = True
        self._is_long = unit is PairUnit.LONG_HALF
        self._kind = ir.VectorType(F16, HALVES)

    def step(self, left: Callable[[int], ir.Value], right: ir.Value) -> None:
        """
        Raises:
            TypeError: always: whoever packs operands fills them up, so that steps come together.
        """
        raise TypeError("a tile of float16 takes no single steps")

    def lane_steps(self, left: Callable[[int], ir.Value], right: Callable[[int], ir.Value]) -> None:
        body = self.body
        sums: list[list[ir.Value | None]] = [[None] * self.vectors for _ in range(self.rows)]
        for first in range(0, self.together, _WORDS):
            places = [body.floats(left(row), first) for row in range(self.rows)]
            if first and self._is_long:  # else LLVM loads the two of a row at once, for which there are no registers
                places = [opaque(body, place) for place in places]
            factors = [self._load(place) for place in places]
            for element in range(HALVES):
                word, odd = divmod(element, 2)
                columns = right(first + word)
                for v in range(self.vectors):
                    weights = self._load(body.floats(columns, v * HALVES + odd * _WORDS))
                    for row, factor in enumerate(factors):
                        lane = lane_of(body, factor, element)
                        if self._is_long:
                            self.put(row, v, multiply_long(body, weights, lane, self.cell(row, v)))
                        else:
                            sums[row][v] = multiply_halves(body, weights, lane, sums[row][v])
        for row, of_row in enumerate(sums):
            for v, total in enumerate(of_row):
                if total is not None:
                    self.put(row, v, body.b.fadd(self.cell(row, v), body.b.fpext(total, body.vector)))

    def _load(self, at: ir.Value) -> ir.Value:
        return self.body.b.load(at, typ=self._kind, align=FLOAT_BYTES)
