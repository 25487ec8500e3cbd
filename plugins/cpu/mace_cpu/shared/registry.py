"""The table of lowerings: from nodes to steps.

A family registers what it can lower in modules whose names begin with ``lower``::

    @lowers("Relu", check=float32_only)
    def relu(program: Program, node: Node) -> None: ...

``check(view, node)`` returns None if this node can be lowered, or the reason why not.  It decides the provider's
claims, so a lowering never fails on a node its check let pass.  A lowering may fuse following nodes into its steps
(`Program.sole_user`, `Program.fuse`) and asks for its inputs in the layout it likes best (`Program.has`, `read`).

A fusion takes a node only if it is free (`Program.is_free`): not computed yet, and not the one that another fusion has
left a value to (`Program.defer`).  Values in between that somebody else reads, or that are outputs, are computed.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_core.graph import GraphView, Node

if TYPE_CHECKING:
    from mace_cpu.shared.program.program import Program

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


@functools.cache
def load_all() -> None:
    """Import every module of the package whose name begins with ``lower``, so that all lowerings are registered."""
    package = importlib.import_module(__name__.partition(".")[0])
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2].startswith("lower"):
            importlib.import_module(module.name)
