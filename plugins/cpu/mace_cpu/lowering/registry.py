"""The table of lowerings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_core.graph import GraphView, Node

if TYPE_CHECKING:
    from mace_cpu.program import Program

Check = Callable[[GraphView, Node], "str | None"]
Lower = Callable[["Program", Node], None]


@dataclass(frozen=True, slots=True)
class Lowering:
    """How one operator is lowered, and when it can be."""

    lower: Lower
    check: Check


_TABLE: dict[tuple[str, str], Lowering] = {}


def lowers(*op_types: str, check: Check, domain: str = "") -> Callable[[Lower], Lower]:
    """Register the decorated function as the lowering of these operators.

    Raises:
        ValueError: if one of them has a lowering already.
    """

    def register(function: Lower) -> Lower:
        for op_type in op_types:
            if (domain, op_type) in _TABLE:
                raise ValueError(f"operator {op_type} has two lowerings")
            _TABLE[domain, op_type] = Lowering(function, check)
        return function

    return register


def find_lowering(domain: str, op_type: str) -> Lowering | None:
    """The lowering of an operator, or None if the provider has none."""
    return _TABLE.get((domain, op_type))


def lowered_operators() -> frozenset[tuple[str, str]]:
    """(domain, operator) of every lowering registered so far."""
    return frozenset(_TABLE)
