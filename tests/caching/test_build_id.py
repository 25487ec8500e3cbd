"""What the caches hold is used by the code that made it, and by no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mace_core
from mace_core.caching.build_id import build_id
from mace_core.host.children import module_path

PACKAGE = Path(mace_core.__path__[0])


def id_of_a_copy(root: Path) -> str:
    code = "from mace_core.caching.build_id import build_id; print(build_id())"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("changed", ["graph/graph.py", "scheduler/planning/plan.py", "native/plan.py", "version.py"])
def test_a_change_of_any_file_of_the_core_makes_another_id(tmp_path: Path, changed: str) -> None:
    shutil.copytree(PACKAGE, tmp_path / "mace_core", ignore=shutil.ignore_patterns("__pycache__"))
    before = id_of_a_copy(tmp_path)
    with (tmp_path / "mace_core" / changed).open("a") as file:
        file.write("# changed\n")
    assert id_of_a_copy(tmp_path) != before


def test_a_plugin_has_an_id_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 1\n")
    before = build_id.__wrapped__(tmp_path)
    (tmp_path / "a.py").write_text("A = 10\n")
    assert build_id.__wrapped__(tmp_path) != before


def test_children_find_the_package_but_not_its_modules_as_their_own() -> None:
    assert str(PACKAGE.parent) in module_path()
    assert str(PACKAGE) not in module_path()
    assert not any(str(PACKAGE) + "/" in entry for entry in module_path())
