"""The table of strategies: which operators can be fuzzed, and with what."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.source import DrawFunction, Source

Drawing = Callable[[Source, str], OpCase]

_TABLE: dict[tuple[str, str], Drawing] = {}


def draws(*op_types: str, domain: str = "") -> Callable[[Drawing], Drawing]:
    """Register the decorated function, called with (source, operator), as what draws cases of these operators.

    Raises:
        ValueError: if one of them has a strategy already.
    """

    def register(function: Drawing) -> Drawing:
        for op_type in op_types:
            if (domain, op_type) in _TABLE:
                raise ValueError(f"operator {op_type} has two strategies")
            _TABLE[domain, op_type] = function
        return function

    return register


@cache
def covered() -> frozenset[tuple[str, str]]:
    """(domain, operator) of everything that has a strategy."""
    from mace_testing.fuzzing import operators

    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
    return frozenset(_TABLE)


def cases(op_type: str, domain: str = "") -> st.SearchStrategy[OpCase]:
    """Cases of one operator.

    Raises:
        KeyError: if it has no strategy.
    """
    covered()
    drawing = _TABLE[domain, op_type]

    @st.composite
    def drawn(draw: DrawFunction) -> OpCase:
        source = Source(draw)
        return _declared(source, drawing(source, op_type), domain)

    found: Any = drawn()
    return found  # type: ignore[no-any-return]


def _declared(source: Source, case: OpCase, domain: str) -> OpCase:
    """The same computation with some inputs as constants and maybe symbolic dimensions."""
    present = [i for i, array in enumerate(case.inputs) if array is not None]
    constants = set(case.constants)
    for index in present[1:]:
        if source.flag():
            constants.add(index)
    return dataclasses.replace(case, constants=frozenset(constants), symbolic=source.rarely(4), domain=domain)
