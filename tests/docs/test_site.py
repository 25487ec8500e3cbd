"""`make docs` builds the site without a network and without a warning, and its API pages show every public name."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="MkDocs is not installed: pip install -c constraints.txt -e .[docs]")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install -c constraints.txt -e .[docs]")
import griffe

ROOT = Path(__file__).parents[2]
API = sorted((ROOT / "docs" / "api").glob("*.md"))
MODULES = {
    found[1]: path
    for path in API
    if (found := re.search(r"^::: (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))
}
"""Public module -> the page that shows it."""

OFFLINE = """
import socket, sys
def refuse(*arguments):
    raise OSError("the documentation must build without a network")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", OFFLINE, "build", "--quiet", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def sources() -> griffe.Module:
    """mace_core as its sources describe it, with imported names followed to where they are defined."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    found = loader.load("mace_core")
    loader.resolve_aliases()
    assert isinstance(found, griffe.Module)
    return found


def public(module: str) -> list[str]:
    """The names a module says are public."""
    names = importlib.import_module(module).__all__
    assert len(set(names)) == len(names) > 0
    return sorted(names)


def defined(sources: griffe.Module, path: str) -> griffe.Object | griffe.Alias:
    found = sources[path.removeprefix("mace_core").removeprefix(".")] if path != "mace_core" else sources
    return found.final_target if isinstance(found, griffe.Alias) else found


def members(owner: griffe.Object | griffe.Alias) -> Iterator[griffe.Object | griffe.Alias]:
    """Public methods and properties, but for checks and fixtures of a test class."""
    for name, member in owner.members.items():
        is_documented_by_name = name.startswith("test_") or any(
            "fixture" in str(d.value) for d in getattr(member, "decorators", [])
        )
        if name.startswith("_") or member.is_alias or is_documented_by_name:
            continue
        if member.is_function or "property" in member.labels:
            yield member


def documented(member: griffe.Object | griffe.Alias, owner: griffe.Object | griffe.Alias) -> bool:
    """By a docstring of its own, or by that of the method it overrides."""
    if member.docstring:
        return True
    return any(
        bool(base.members[member.name].docstring)
        for base in owner.mro()  # type: ignore[union-attr]
        if member.name in base.members
    )


def test_every_public_package_has_a_page() -> None:
    expected = {
        f"mace_core.{path.parent.name}"
        for path in (ROOT / "mace_core").glob("*/__init__.py")
        if re.search(r"^__all__ = \[\s*\"", path.read_text(encoding="utf-8"), re.MULTILINE)
        and path.parent.name not in INTERNAL
    }
    assert expected | {"mace_core", "mace_core.errors"} <= set(MODULES)


INTERNAL = {"frontend", "optimizer", "presentation", "scheduler", "cli", "caching", "host"}
"""Packages whose names may change with any version."""


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"mace_core.native"}))
def test_every_public_name_is_on_its_page(site: Path, module: str) -> None:
    page = (site / MODULES[module].relative_to(ROOT / "docs")).with_suffix(".html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="(mace_core[\w.]*)"', page))
    missing = {
        name
        for name in public(module)
        # the second form: a function that is called like the module that defines it
        if f"{module}.{name}" not in shown and f"{module}.{name}.{name}" not in shown
    }
    package = importlib.import_module(module)
    modules = {name for name in missing if getattr(package, name).__name__ in MODULES}  # they have pages of their own
    assert missing - modules == set()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"mace_core.native"}))
def test_every_public_name_has_a_docstring(sources: griffe.Module, module: str) -> None:
    bare = []
    for name in public(module):
        found = defined(sources, f"{module}.{name}")
        if not found.docstring:
            bare.append(found.path)
        if found.is_class:
            bare += [member.path for member in members(found) if not documented(member, found)]
    assert bare == []


def native_modules() -> list[str]:
    """The modules that the docstring of the service names as public."""
    return re.findall(r"`(mace_core\.native\.\w+)`", importlib.import_module("mace_core.native").__doc__ or "")


def test_every_module_of_the_native_service_is_on_its_page(site: Path, sources: griffe.Module) -> None:
    page = (site / "api" / "native.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'id="(mace_core[\w.]*)"', page))
    modules = native_modules()
    assert len(modules) > 8
    for module in modules:
        names = [name for name, own in defined(sources, module).members.items() if own.is_public and not own.is_alias]
        assert {f"{module}.{name}" for name in names} - shown == set()


@pytest.mark.parametrize("module", native_modules())
def test_every_name_of_the_native_service_has_a_docstring(sources: griffe.Module, module: str) -> None:
    own = [member for member in defined(sources, module).members.values() if member.is_public and not member.is_alias]
    inner = [member for kind in own if kind.is_class for member in members(kind) if not documented(member, kind)]
    assert [member.path for member in own if not member.docstring] + [member.path for member in inner] == []


def test_a_field_is_shown_with_its_type(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "api" / "provider.html").read_text(encoding="utf-8"))
    assert re.search(r"workspace_bytes:\s*int", page)
    assert re.search(r"compile\(\s*subgraphs:\s*Sequence\[GraphView\]", page)
