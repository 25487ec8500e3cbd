"""Expressions as a table that a few lines of code evaluate: what a structure computes when a shape arrives."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.polynomial import Monomial, Polynomial
from mace_core.symbolic.trace import Operation, Trace

Table = npt.NDArray[np.int64]

ROW_WORDS = 3
"""A row is three int64: operation, register of the left operand, register or value of the right one."""


class Op(enum.IntEnum):
    """What a row of a program does; those that end in N take a number instead of a second register."""

    NUMBER = 0
    ADD = 1
    ADD_N = 2
    MULTIPLY = 3
    MULTIPLY_N = 4
    FLOOR_DIVIDE = 5
    FLOOR_DIVIDE_N = 6
    MINIMUM = 7
    MAXIMUM = 8


_COMPUTE: tuple[Callable[[list[int], int, int], int], ...] = (
    lambda r, a, b: b,
    lambda r, a, b: r[a] + r[b],
    lambda r, a, b: r[a] + b,
    lambda r, a, b: r[a] * r[b],
    lambda r, a, b: r[a] * b,
    lambda r, a, b: r[a] // r[b],
    lambda r, a, b: r[a] // b,
    lambda r, a, b: min(r[a], r[b]),
    lambda r, a, b: max(r[a], r[b]),
)

_OPERATIONS: dict[Operation, Op] = {"//": Op.FLOOR_DIVIDE, "min": Op.MINIMUM, "max": Op.MAXIMUM}


@dataclass(frozen=True, slots=True, eq=False)
class SizeProgram:
    """Registers hold the symbols and then a result for each row; see `SizeProgramBuilder`.

    Attributes:
        symbols: how many.
        rows: (n, 3): operation, register of the left operand, register or value of the right one.
    """

    symbols: int
    rows: Table

    @property
    def registers(self) -> int:
        """How many registers a run needs."""
        return self.symbols + len(self.rows)

    def run(self, symbols: Sequence[int]) -> list[int]:
        """All registers for these values of the symbols, with Python's integers: slow, and never too large.

        Raises:
            ZeroDivisionError: where the shapes are not admitted.
        """
        registers = [int(value) for value in symbols]
        for op, left, right in self.rows.tolist():
            registers.append(_COMPUTE[op](registers, left, right))
        return registers


_SOURCES = (
    "{b}",
    "r{a} + r{b}",
    "r{a} + {b}",
    "r{a} * r{b}",
    "r{a} * {b}",
    "r{a} // r{b}",
    "r{a} // {b}",
    "r{a} if r{a} < r{b} else r{b}",
    "r{a} if r{a} > r{b} else r{b}",
)


def python_source(program: SizeProgram) -> list[str]:
    """Statements that compute register n as the variable ``rn``, from those of the symbols on."""
    rows = enumerate(program.rows.tolist(), program.symbols)
    return [f"r{number} = {_SOURCES[op].format(a=a, b=b)}" for number, (op, a, b) in rows]


class SizeProgramBuilder:
    """Turns expressions over the symbols of one trace into rows, each part once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._rows: list[tuple[int, int, int]] = []
        self._memo: dict[object, int] = {}

    def register(self, expression: Polynomial) -> int:
        """The register that will hold ``expression``."""
        key = poly.key_of(expression)
        found = self._memo.get(key)
        if found is None:
            self._trace.note_computed(expression)
            found = self._memo[key] = self._polynomial(expression)
        return found

    def finish(self) -> SizeProgram:
        """The program; registers given out so far are its registers."""
        return SizeProgram(self._trace.symbols, np.array(self._rows, np.int64).reshape(-1, ROW_WORDS))

    def _polynomial(self, expression: Polynomial) -> int:
        total: int | None = None
        for monomial, coefficient in expression.items():
            if not monomial:
                continue
            term = self._monomial(monomial)
            if coefficient != 1:
                term = self._row(Op.MULTIPLY_N, term, coefficient)
            total = term if total is None else self._row(Op.ADD, total, term)
        offset = expression.get(poly.ONE, 0)
        if total is None:
            return self._row(Op.NUMBER, 0, offset)
        return self._row(Op.ADD_N, total, offset) if offset else total

    def _monomial(self, monomial: Monomial) -> int:
        if len(monomial) == 1:
            return self._atom(monomial[0])
        return self._row(Op.MULTIPLY, self._monomial(monomial[:-1]), self._atom(monomial[-1]))

    def _atom(self, number: int) -> int:
        atom = self._trace.atoms[number]
        if atom.operation is None:
            return number
        left = self.register(atom.left)
        divisor = poly.as_constant(atom.right) if atom.operation == "//" else None
        if divisor is not None:
            return self._row(Op.FLOOR_DIVIDE_N, left, divisor)
        return self._row(_OPERATIONS[atom.operation], left, self.register(atom.right))

    def _row(self, op: Op, left: int, right: int) -> int:
        row = (int(op), left, right)
        found = self._memo.get(row)
        if found is None:
            found = self._memo[row] = self._trace.symbols + len(self._rows)
            self._rows.append(row)
        return found
