"""Register tiles of aarch64 whose operands are float16, with sums in float32.

A factor is one lane of eight float16 of a row, which meets eight columns.  With ``fmlal`` products are exact and added
to sums in float32.  Without it sums are float16, as wide as the factors: twice as many at a time.  What that loses
grows with the number of products summed, so that sums of a few products are added to sums in float32.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from mace_cpu.shared.codegen.body import FLOAT_BYTES, Body
from mace_cpu.shared.codegen.float16 import F16, HALVES, keep_order, lane_of, multiply_halves, multiply_long
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
        if not self._is_long:
            # where LLVM does not see that it could keep them in registers, of which float16 takes the most
            sums = opaque(body, body.memory(ir.ArrayType(body.vector, rows * vectors)))
            self._cells = [
                [body.floats(sums, (row * vectors + v) * HALVES) for v in range(vectors)] for row in range(rows)
            ]

    def step(self, left: Callable[[int], ir.Value], right: ir.Value) -> None:
        """
        Raises:
            TypeError: always: whoever packs operands fills them up, so that steps come together.
        """
        raise TypeError("a tile of float16 takes no single steps")

    def lane_steps(self, left: Callable[[int], ir.Value], right: Callable[[int], ir.Value]) -> None:
        body = self.body
        sums: list[list[ir.Value]] = [[] for _ in range(self.rows)]
        for first in range(0, self.together, _WORDS):
            places = [body.floats(left(row), first) for row in range(self.rows)]
            if first and self._is_long:  # else LLVM loads the two of a row at once, for which there are no registers
                places = [opaque(body, place) for place in places]
            factors = [self._load(place) for place in places]
            for word in range(_WORDS):
                columns = right(first + word)
                weights = [
                    [self._load(body.floats(columns, v * HALVES + odd * _WORDS)) for v in range(self.vectors)]
                    for odd in range(2)
                ]
                for odd, of_element in enumerate(weights):
                    for row, factor in enumerate(factors):
                        lane = lane_of(body, factor, 2 * word + odd)
                        if self._is_long:
                            for v, one in enumerate(of_element):
                                self.put(row, v, multiply_long(body, one, lane, self.cell(row, v)))
                        else:
                            before = sums[row] or [None] * self.vectors
                            sums[row] = [
                                multiply_halves(body, one, lane, total)
                                for one, total in zip(of_element, before, strict=True)
                            ]
                if not self._is_long:
                    keep_order(body, [total for row in sums for total in row])
        for row, of_row in enumerate(sums):
            for v, total in enumerate(of_row):
                self.put(row, v, body.b.fadd(self.cell(row, v), body.b.fpext(total, body.vector)))

    def _load(self, at: ir.Value) -> ir.Value:
        return self.body.b.load(at, typ=self._kind, align=FLOAT_BYTES)
