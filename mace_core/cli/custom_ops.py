"""`mace --custom-ops`: importing what registers custom operators."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from mace_core.discovery.entry_points import describe
from mace_core.errors import UsageError

_imported: list[str] = []


def imported_sources() -> list[str]:
    """What `import_custom_ops` was given in this process, for processes that are to know the same operators."""
    return list(_imported)


def import_custom_ops(source: str) -> None:
    """Import a Python file, or a module by name (looked for in the current folder too).

    Raises:
        UsageError: if it cannot be imported, or registers nothing.
    """
    from mace_core.custom_ops import registered_ops

    before = len(registered_ops())
    try:
        if source.endswith(".py"):
            _import_file(Path(source))
        else:
            sys.path.insert(0, "")
            importlib.import_module(source)
    except Exception as error:
        raise UsageError(f"--custom-ops {source}: it cannot be imported: {describe(error)}") from error
    if len(registered_ops()) == before:
        raise UsageError(
            f"--custom-ops {source}: it registers no operator; decorate a function with mace_core.custom_op"
        )
    _imported.append(str(Path(source).resolve()) if source.endswith(".py") else source)


def _import_file(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no Python file '{path}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # the function's source and annotations are looked for there
    spec.loader.exec_module(module)
