"""Functions of the user, named ``module:function`` or ``file.py:function``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from mace_core.errors import UsageError, describe_error


def import_function(source: str, option: str) -> Callable[..., Any]:
    """The function that ``source`` names; modules are looked for in the current folder too.

    Args:
        option: where the name was given, for messages.

    Raises:
        UsageError: if there is no such module, it cannot be imported, or has no such function.
    """
    name, _, function = source.rpartition(":")
    try:
        module = _file(Path(name)) if name.endswith(".py") else _module(name)
    except Exception as error:  # whatever the module raises
        raise UsageError(f"{option} {source}: '{name}' cannot be imported: {describe_error(error)}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise UsageError(f"{option} {source}: '{name}' has no function '{function}'")
    return found  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")
    return importlib.import_module(name)


def _file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no Python file '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
