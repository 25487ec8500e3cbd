"""The contract's page and docstrings: every member is there, and what is reserved says so in both."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mace_core.provider as contract
from mace_core.provider import Backend, Compatibility, Event, ShapeSupport
from mace_core.provider.api import API_VERSION

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")

CLASSES = (
    *("ExecutionProvider", "Device", "ProbeResult", "Missing", "Backend", "Capability", "Claim", "Cost", "Rejection"),
    *("CompiledSubgraph", "Execution", "Bindings", "Allocator", "DataTransfer", "Stream", "Event", "ForeignMemory"),
)

TOLD_ELSEWHERE = {"Device", "ProbeResult", "Missing", "Bindings", "ForeignMemory", "Cost", "Capability", "Rejection"}
"""Plain data, whose fields their docstrings and the API page list."""


def members(kind: type) -> Iterator[str]:
    names = [name for name in vars(kind) if not name.startswith("_")]
    names += [name for name in getattr(kind, "__annotations__", {}) if not name.startswith("_")]
    yield from dict.fromkeys(names)


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_of_a_class_that_vendors_write_is_on_the_page(name: str) -> None:
    if name in TOLD_ELSEWHERE:
        return
    missing = [member for member in members(getattr(contract, name)) if not re.search(rf"\b{member}\b", PAGE)]
    assert not missing


def test_the_page_is_that_of_the_version() -> None:
    assert f"(api {API_VERSION})" in PAGE.splitlines()[0]


RESERVED: dict[str, Any] = {
    "`BOUNDED`": ShapeSupport,
    "`Backend.allocators()`": Backend.allocators,
    "`Event.is_done`": Event.is_done,
}


@pytest.mark.parametrize("member", RESERVED)
def test_what_is_reserved_names_a_later_version_on_the_page_and_in_the_code(member: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("|") and member in line and "reserved" in line)
    (version,) = set(re.findall(r"reserved for api (\d+\.\d+)", row))
    assert tuple(map(int, version.split("."))) > API_VERSION
    thing = RESERVED[member]
    text = inspect.getsource(thing.fget if isinstance(thing, property) else thing)
    assert re.search(rf"[Rr]eserved for api {version}", " ".join(text.split()))


def test_nothing_else_is_reserved() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and "reserved for api" in line]
    assert all(any(member in row for member in RESERVED) for row in rows)


def test_each_word_on_a_blob_is_explained() -> None:
    for worth in Compatibility:
        assert f"`{worth.name}`" in PAGE


def public_things() -> Iterator[tuple[str, Any]]:
    for name in contract.__all__:
        thing = getattr(contract, name)
        yield name, thing
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if not member.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, property | classmethod)
                ):
                    yield f"{name}.{member}", value


def test_every_public_thing_of_the_package_has_a_docstring() -> None:
    bare = [
        name
        for name, thing in public_things()
        if (inspect.isclass(thing) or inspect.isroutine(thing) or isinstance(thing, property))
        and not (inspect.getdoc(thing) or "").strip()
    ]
    assert not bare


def test_every_function_of_the_package_has_a_docstring() -> None:
    import ast

    folder = Path(contract.__file__).parent
    bare = []
    for path in sorted(folder.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else [node]
            for item in inner:
                if isinstance(item, ast.FunctionDef) and not item.name.startswith("_") and not ast.get_docstring(item):
                    bare.append(f"{path.name}: {item.name}")
    assert not bare
