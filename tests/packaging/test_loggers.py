"""Every logger of the framework and of its plugins is ``mace`` or below it, so that an application sets up one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / "mace_core", *sorted(ROOT.glob("plugins/*/mace_*")), ROOT / "examples"]


def logger_names(source: str) -> list[str | None]:
    """The name each call of ``getLogger`` is given; None where it is not a literal."""
    names: list[str | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
            (given,) = node.args or [ast.Constant("")]
            names.append(given.value if isinstance(given, ast.Constant) and isinstance(given.value, str) else None)
    return names


def is_below_mace(name: str | None) -> bool:
    return name is not None and (name == "mace" or name.startswith("mace."))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_all_loggers_are_below_mace(folder: Path) -> None:
    strangers = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted(folder.rglob("*.py"))
        for name in logger_names(path.read_text(encoding="utf-8"))
        if not is_below_mace(name)
    ]
    assert not strangers


def test_what_the_check_sees() -> None:
    source = (
        'import logging\nlogging.getLogger("mace.x")\nlogging.getLogger(__name__)\nlogging.getLogger("mace_core.x")'
    )
    assert [is_below_mace(name) for name in logger_names(source)] == [True, False, False]
    assert not is_below_mace(logger_names("from logging import getLogger; getLogger()")[0])
