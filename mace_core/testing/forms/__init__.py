"""Forms of operators that providers are tried on: every attribute, optional input, shape and type that changes what a
node means, by operator.

Each module holds the forms of one family and registers them; all modules of this package are found by walking it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from mace_core.testing.cases import Case


@cache
def operator_forms() -> dict[str, tuple[Case, ...]]:
    """Operator -> its forms, in a fixed order; no two forms of an operator have the same name."""
    from mace_core.testing.forms.building import MAKERS

    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        importlib.import_module(f"{__name__}.{module.name}")
    made: dict[str, tuple[Case, ...]] = {}
    for op_type in sorted(MAKERS):
        by_name = {case.name: case for maker in MAKERS[op_type] for case in maker(op_type)}
        made[op_type] = tuple(by_name.values())
    return made
