"""Sizes that are not decided yet: integers that are expressions, and the conditions under which what was decided holds.

See docs/decisions/symbolic-plans.md.
"""

from mace_core.symbolic.integer import (
    SymbolicInt,
    SymbolicReal,
    ceiling,
    hint,
    is_symbolic,
    maximum,
    minimum,
    new_symbol,
    polynomial_of,
    whole,
)
from mace_core.symbolic.program import SizeProgram, SizeProgramBuilder
from mace_core.symbolic.trace import Guard, Trace

__all__ = [
    "Guard",
    "SizeProgram",
    "SizeProgramBuilder",
    "SymbolicInt",
    "SymbolicReal",
    "Trace",
    "ceiling",
    "hint",
    "is_symbolic",
    "maximum",
    "minimum",
    "new_symbol",
    "polynomial_of",
    "whole",
]
