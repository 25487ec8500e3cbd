"""Traces and sizes as plain data, and back: what a plan of symbolic sizes is stored with.

An expression is a list of terms, a term a list of its coefficient and its atoms.  Whatever is read is looked through:
data that is not what was written here is refused with `ValueError`, and nothing in it is ever run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.integer import SymbolicInt, SymbolicReal, as_size
from mace_core.symbolic.kinds import is_symbolic
from mace_core.symbolic.polynomial import Interval, Key, Monomial, Polynomial
from mace_core.symbolic.quotient import SymbolicQuotient
from mace_core.symbolic.trace import Atom, Guard, Trace, TraceState

_OPERATIONS = ("//", "min", "max")


def dump_trace(trace: Trace, largest: int) -> dict[str, Any]:
    """All that `load_trace` needs; ``largest``: see `Trace.largest_symbol`."""
    state = trace.state()
    symbols, operations = state.atoms[: state.symbols], state.atoms[state.symbols :]
    return {
        "symbols": [[atom.name, atom.hint] for atom in symbols],
        "operations": [[atom.operation, _dump(atom.left), _dump(atom.right)] for atom in operations],
        "guards": [[_dump(guard.expression), guard.relation, guard.outcome] for guard in state.guards],
        "bounds": [_dump_interval(bounds) for bounds in state.bounds],
        "learned": [[_dump(dict(key)), _dump_interval(bounds)] for key, bounds in state.learned.items()],
        "largest": largest,
    }


def load_trace(stored: Any) -> Trace:
    """The trace that `dump_trace` wrote: with the same atoms, guards and bounds, and open.

    Raises:
        ValueError: if the data is anything else.
    """
    stored = _mapping(stored)
    atoms: list[Atom] = []

    def hint(expression: Polynomial) -> int:
        return poly.evaluate(expression, lambda number: atoms[number].hint)

    for row in _rows(stored["symbols"], 2):
        if not isinstance(row[0], str):
            raise ValueError("a stored symbol has no name")
        atoms.append(Atom(row[0], whole_number(row[1])))
    symbols = len(atoms)
    for row in _rows(stored["operations"], 3):
        if row[0] not in _OPERATIONS:
            raise ValueError(f"there is no operation {row[0]!r} of sizes")
        left, right = _load(row[1], len(atoms)), _load(row[2], len(atoms))
        a, b = hint(left), hint(right)
        if row[0] == "//" and b == 0:
            raise ValueError("a stored size is divided by zero")
        value = a // b if row[0] == "//" else min(a, b) if row[0] == "min" else max(a, b)
        atoms.append(Atom("", value, row[0], left, right))
    guards: list[Guard] = []
    for row in _rows(stored["guards"], 3):
        guard = Guard(_load(row[0], len(atoms)), row[1], row[2])
        value = hint(guard.expression)
        if row[1] not in ("==", "<") or row[2] is not (value == 0 if row[1] == "==" else value < 0):
            raise ValueError("a stored condition does not hold for the sizes it was made for")
        guards.append(guard)
    bounds = [_load_interval(item) for item in _list(stored["bounds"])]
    if len(bounds) != len(atoms) or any(
        not low <= atom.hint <= high for atom, (low, high) in zip(atoms, bounds, strict=True)
    ):
        raise ValueError("the stored bounds of sizes do not fit them")
    learned: dict[Key, Interval] = {
        poly.key_of(_load(row[0], len(atoms))): _load_interval(row[1]) for row in _rows(stored["learned"], 2)
    }
    largest = whole_number(stored["largest"])
    return Trace.restored(TraceState(symbols, tuple(atoms), tuple(guards), tuple(bounds), learned, largest))


class SizeWriter:
    """Turns sizes of one trace into plain data; each expression is written once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._numbers: dict[Key, int] = {}
        self.expressions: list[list[list[int]]] = []

    def size(self, size: Any) -> Any:
        """A number or None as it is, a name as it is; an expression as a list of its number in ``expressions``.

        Raises:
            ValueError: for a size of another trace, and for what is none.
        """
        if is_symbolic(size):
            if type(size) is not SymbolicInt or size.trace is not self._trace:
                raise ValueError(f"{size!r} is no size of this plan")
            return [self._number(size.expression)]
        if size is None or isinstance(size, str):
            return size
        if isinstance(size, int | np.integer):
            return int(size)
        raise ValueError(f"{size!r} is no size")

    def item(self, item: Any) -> Any:
        """An element of a `SymbolicTensor`.

        Raises:
            ValueError: if it is neither a number nor follows from sizes of this trace.
        """
        if isinstance(item, SymbolicQuotient):
            return ["quotient", self.size(item.numerator), item.denominator, item.bits]
        if isinstance(item, SymbolicReal):
            if item.trace is not self._trace:
                raise ValueError("an estimate is none of this plan")
            return ["real", [[coefficient, *monomial] for monomial, coefficient in item.terms.items()]]
        if isinstance(item, bool | np.bool_):
            return bool(item)
        if isinstance(item, float | np.floating):
            return ["float", float(item)]
        return self.size(item)

    def _number(self, expression: Polynomial) -> int:
        key = poly.key_of(expression)
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.expressions)
            self.expressions.append(_dump(expression))
        return found


class SizeReader:
    """Turns what `SizeWriter` wrote into sizes of a trace."""

    def __init__(self, trace: Trace, expressions: Any) -> None:
        """
        Raises:
            ValueError: if the expressions are none of the trace.
        """
        self._trace = trace
        self._sizes = [as_size(trace, _load(stored, len(trace.atoms))) for stored in _list(expressions)]

    def size(self, stored: Any) -> Any:
        """A number, a name, None or an expression.

        Raises:
            ValueError: if it is none of these.
        """
        if stored is None or type(stored) in (int, str):
            return stored
        number = stored[0] if isinstance(stored, list) and len(stored) == 1 else None
        if type(number) is int and 0 <= number < len(self._sizes):
            return self._sizes[number]
        raise ValueError(f"{stored!r} is no stored size")

    def item(self, stored: Any) -> Any:
        """An element of a `SymbolicTensor`.

        Raises:
            ValueError: if it is none.
        """
        if type(stored) is bool:
            return stored
        if not isinstance(stored, list) or len(stored) == 1:
            return self.size(stored)
        kind, *rest = stored
        if kind == "float" and len(rest) == 1 and type(rest[0]) is float:
            return rest[0]
        if kind == "quotient" and len(rest) == 3:
            denominator, bits = whole_number(rest[1]), whole_number(rest[2])
            if denominator < 1 or not 1 <= bits <= 64:
                raise ValueError("a stored quotient is none")
            return SymbolicQuotient(self.size(rest[0]), denominator, bits)
        if kind == "real" and len(rest) == 1:
            terms: dict[Monomial, float] = {}
            for coefficient, *atoms in _rows(rest[0]):
                if type(coefficient) not in (float, int) or not math.isfinite(coefficient):
                    raise ValueError("a stored estimate is none")
                terms[_monomial(atoms, len(self._trace.atoms))] = coefficient
            return SymbolicReal(self._trace, terms)
        raise ValueError(f"{stored!r} is no stored number")


def dump_size(size: int) -> Any:
    """One size as plain data; `load_size` finds it again in the same trace, or in one that was restored."""
    return _dump(size.expression) if isinstance(size, SymbolicInt) else int(size)


def load_size(stored: Any, trace: Trace | None) -> int:
    """The size that `dump_size` wrote.

    Raises:
        ValueError: if it is none, or follows from sizes that are not there.
    """
    if type(stored) is int:
        return stored
    return as_size(Trace() if trace is None else trace, _load(stored, 0 if trace is None else len(trace.atoms)))


def whole_number(stored: Any) -> int:
    """
    Raises:
        ValueError: if it is none.
    """
    if type(stored) is not int:
        raise ValueError(f"{stored!r} is no whole number")
    return stored


def _dump(expression: Polynomial) -> list[list[int]]:
    return [[coefficient, *monomial] for monomial, coefficient in expression.items()]


def _load(stored: Any, atoms: int) -> Polynomial:
    """An expression over the first ``atoms`` atoms."""
    found: dict[Monomial, int] = {}
    for coefficient, *numbers in _rows(stored):
        monomial = _monomial(numbers, atoms)
        if not whole_number(coefficient) or monomial in found:
            raise ValueError("a stored expression is not in its normal form")
        found[monomial] = coefficient
    return found


def _monomial(numbers: Sequence[Any], atoms: int) -> Monomial:
    if any(type(number) is not int or not 0 <= number < atoms for number in numbers) or sorted(numbers) != numbers:
        raise ValueError("a stored expression refers to what is not there")
    return tuple(numbers)


def _dump_interval(interval: Interval) -> list[float | None]:
    return [None if math.isinf(end) else end for end in interval]


def _load_interval(stored: Any) -> Interval:
    kinds = (int, float, type(None))
    if not isinstance(stored, list) or len(stored) != 2 or any(type(end) not in kinds for end in stored):
        raise ValueError("a stored interval is none")
    low, high = stored
    found = -math.inf if low is None else low, math.inf if high is None else high
    if not found[0] <= found[1]:
        raise ValueError("a stored interval is empty")
    return found


def _mapping(stored: Any) -> Mapping[str, Any]:
    if not isinstance(stored, dict):
        raise ValueError("a stored trace is none")
    return cast("Mapping[str, Any]", stored)


def _list(stored: Any) -> list[Any]:
    if not isinstance(stored, list):
        raise ValueError("a stored list is none")
    return stored


def _rows(stored: Any, width: int = 0) -> list[list[Any]]:
    rows = _list(stored)
    if not all(isinstance(row, list) and row and (not width or len(row) == width) for row in rows):
        raise ValueError("a stored table is none")
    return rows
