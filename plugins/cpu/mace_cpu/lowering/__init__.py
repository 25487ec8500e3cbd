"""From nodes to steps: one module per family of operators, each registering what it can lower.

Use::

    @lowers("Relu", check=float32_only)
    def relu(program: Program, node: Node) -> None: ...

``check(view, node)`` returns None if this node can be lowered, or the reason why not.  It decides the provider's
claims, so a lowering never fails on a node its check let pass.  A lowering may fuse following nodes into its steps
(`Program.sole_user`, `Program.fuse`) and asks for its inputs in the layout it likes best (`Program.has`, `read`).

A fusion takes a node only if it is free (`Program.is_free`): not computed yet, and not the one that another fusion has
left a value to (`Program.defer`).  Values in between that somebody else reads, or that are outputs, are computed.
"""

from __future__ import annotations

import importlib
import pkgutil

from mace_cpu.lowering.registry import Lowering, find_lowering, lowers


def load_all() -> None:
    """Import every module of this package, so that all lowerings are registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


__all__ = ["Lowering", "find_lowering", "load_all", "lowers"]
