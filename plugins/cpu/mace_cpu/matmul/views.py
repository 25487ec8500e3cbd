"""Matrices inside values that are shown: heads of an attention, transposed operands, parts of wider rows."""

from __future__ import annotations

from dataclasses import dataclass

from mace_cpu.shared.parts.views import Offsets, Strided


@dataclass(frozen=True, slots=True)
class Lie:
    """How a stack of matrices lies in memory.

    Attributes:
        starts: of each matrix, in elements.
        step: elements from row to row; from column to column where ``transposed``.
        transposed: neighbors in a column are neighbors in memory, not those in a row.
    """

    starts: Offsets
    step: int
    transposed: bool = False


def lie_of(strided: Strided) -> Lie | None:
    """How the matrices lie that the last two axes make up; None where neither rows nor columns are contiguous."""
    *stack, rows, columns = strided.shape
    *outer, down, across = strided.strides
    if across == 1 or columns == 1:
        step, transposed = down, False
    elif down == 1 or rows == 1:
        step, transposed = across, True
    else:
        return None
    if step < 0:
        return None
    return Lie(Offsets(strided.offset, tuple(stack), tuple(outer)), step, transposed)
