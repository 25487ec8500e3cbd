"""Which cases of a test the quick tier runs: each value of each parameter, and a part of what combines them again.

A test over 5 operators, 4 element types and 3 instruction sets has 60 cases.  8 of them bring an operator, a type or a
set that no case before had; what a test is about is almost always found by these.  Of the others some are kept, always
the same ones; `make test-full` runs all.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from mace_core.graph import Graph
from mace_core.testing.cases import Case

SMALL_FAMILY = 8
"""Tests of no more cases than this keep them all."""

ONE_OF = 8
"""Of the cases that bring nothing new, one of so many is kept."""


MARKS = "not full"
"""What the quick tier asks pytest for, as pyproject.toml has it."""


def is_run(marks: str, keyword: str, arguments: Sequence[str]) -> bool:
    """Whether pytest is asked for the quick tier, or for folders of it; files, tests and words are chosen by hand."""
    return marks == MARKS and not keyword and all(Path(argument).is_dir() for argument in arguments)


def kept(cases: Sequence[tuple[str, Mapping[str, Any]]]) -> list[bool]:
    """Whether the quick tier runs each of a test's cases.

    Args:
        cases: the name and the parameters of each, in the order in which they are collected.
    """
    if len(cases) <= SMALL_FAMILY:
        return [True] * len(cases)
    seen: set[tuple[str, Hashable]] = set()
    found = []
    for name, parameters in cases:
        values = set(_values(parameters))
        found.append(bool(values - seen) or is_drawn(name, ONE_OF))
        seen |= values
    return found


def is_drawn(name: str, one_of: int) -> bool:
    """Whether a name is among the one of ``one_of`` that are taken, which no other name decides."""
    return zlib.crc32(name.encode()) % one_of == 0


def operator_of(value: str | Case | Graph) -> str:
    """What a parameter of the conformance kit tries: its operator, or the name of the graph."""
    match value:
        case Case():
            return value.op_type
        case Graph():
            return value.name
        case _:
            return value


def _values(parameters: Mapping[str, Any]) -> Iterable[tuple[str, Hashable]]:
    for name, value in parameters.items():
        yield name, _identity(value)


def _identity(value: Any) -> Hashable:
    """What is the same for equal values, in every process."""
    match value:
        case np.ndarray():
            return value.dtype.str, value.shape, value.tobytes()
        case np.generic() | Enum() | str() | bytes() | int() | float() | None:
            return type(value).__name__, repr(value)
        case Case():  # of the conformance kit: what is tried is its operator
            return "case", value.op_type
        case tuple() | list():
            return type(value).__name__, tuple(_identity(part) for part in value)
        case Mapping():
            return "mapping", tuple((str(key), _identity(part)) for key, part in value.items())
        case set() | frozenset():
            return "set", frozenset(_identity(part) for part in value)
        case _:
            return "object", id(value)
