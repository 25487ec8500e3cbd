"""The sizes of matrix products and how their operands lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mace_cpu.matmul.views import Lie
from mace_cpu.shared.parts.views import Offsets


@dataclass(frozen=True, slots=True)
class Product:
    """Sizes of a stack of independent matrix products.

    Attributes:
        rows, steps, columns: (rows, steps) @ (steps, columns).
        stack: the shape of the stack.
        left, right: the shapes of the stacks of operands, which are broadcast to that.
        transposed_left, transposed_right: the operand lies transposed.
        left_at, right_at: how the matrices lie, if not densely one after another; a known right operand is dense.
    """

    rows: int
    steps: int
    columns: int
    stack: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    transposed_left: bool = False
    transposed_right: bool = False
    left_at: Lie | None = None
    right_at: Lie | None = None

    @property
    def count(self) -> int:
        """How many products."""
        return math.prod(self.stack)

    @property
    def macs(self) -> int:
        return self.count * self.rows * self.steps * self.columns

    def left_lie(self) -> Lie:
        """How the left matrices lie."""
        if self.left_at is not None:
            return self.left_at
        starts = Offsets.of_dense(self.left, self.rows * self.steps)
        return Lie(starts, self.rows if self.transposed_left else self.steps, self.transposed_left)

    def right_lie(self) -> Lie:
        """How the right matrices lie, if they are not known."""
        if self.right_at is not None:
            return self.right_at
        starts = Offsets.of_dense(self.right, self.steps * self.columns)
        return Lie(starts, self.steps if self.transposed_right else self.columns, self.transposed_right)
