"""Sizes that are not decided yet: integers that are expressions, and the conditions under which what was decided holds.

See docs/decisions/symbolic-plans.md.  What is needed to tell such sizes from numbers is at hand at once; the rest is
imported when somebody asks for it, since a model that is run with one shape has no use for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mace_core.symbolic.kinds import hint, is_same, is_symbolic, settled, writing_for_people

if TYPE_CHECKING:
    from mace_core.symbolic.integer import (
        SymbolicInt,
        SymbolicReal,
        ceiling,
        divisor,
        maximum,
        minimum,
        new_symbol,
        polynomial_of,
        whole,
    )
    from mace_core.symbolic.program import SizeProgram, SizeProgramBuilder
    from mace_core.symbolic.quotient import SymbolicQuotient
    from mace_core.symbolic.trace import Guard, Trace

_MODULES = {
    "integer": (
        "SymbolicInt",
        "SymbolicReal",
        "ceiling",
        "divisor",
        "maximum",
        "minimum",
        "new_symbol",
        "polynomial_of",
        "whole",
    ),
    "program": ("SizeProgram", "SizeProgramBuilder"),
    "quotient": ("SymbolicQuotient",),
    "trace": ("Guard", "Trace"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Guard",
    "SizeProgram",
    "SizeProgramBuilder",
    "SymbolicInt",
    "SymbolicQuotient",
    "SymbolicReal",
    "Trace",
    "ceiling",
    "divisor",
    "hint",
    "is_same",
    "is_symbolic",
    "maximum",
    "minimum",
    "new_symbol",
    "polynomial_of",
    "settled",
    "whole",
    "writing_for_people",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'mace_core.symbolic' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mace_core.symbolic.{module}"), name)
    globals()[name] = value
    return value
