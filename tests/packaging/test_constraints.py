"""constraints.txt pins all that the Makefile installs, for every version of Python."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = [ROOT, *sorted((ROOT / "plugins").glob("*/")), ROOT / "examples" / "vendor_plugin"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    """Versions by name that hold for this Python."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            if requirement.marker is None or requirement.marker.evaluate():
                assert normal(requirement.name) not in found, f"{requirement.name} is pinned twice"
                found[normal(requirement.name)] = specifier.version
    return found


def test_what_is_installed_is_what_is_pinned() -> None:
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--disable-pip-version-check"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    installed = dict(line.split("==") for line in frozen if "==" in line)
    assert len(installed) > 40  # of an environment made by `make test`
    pinned = pins()
    assert {name: version for name, version in installed.items() if pinned.get(normal(name)) != version} == {}
    assert not [line for line in frozen if " @ " in line and not re.match(r"(mace|acme)", line)]


@pytest.mark.parametrize("folder", PROJECTS, ids=lambda folder: folder.name)
def test_the_build_backend_is_pinned(folder: Path) -> None:
    wanted = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {normal(Requirement(text).name) for text in wanted} <= pins().keys()


def test_what_the_makefile_names_is_pinned() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    for variable in ("MODELS", "SDKS"):
        (names,) = re.findall(rf"^{variable} := (.*)$", text, re.MULTILINE)
        assert {normal(name) for name in names.split()} <= pins().keys()
    for line in re.findall(r"^\t\$\(PIP\) install (.*)$", text, re.MULTILINE):
        words = [word for word in line.split() if re.fullmatch(r"[a-z][\w-]+", word)]
        others = pins().keys() | bench_pins()
        assert {normal(word) for word in words} <= others, line


def bench_pins() -> set[str]:
    lines = (ROOT / "constraints-bench.txt").read_text(encoding="utf-8").splitlines()
    return {normal(line.partition("==")[0]) for line in lines if "==" in line}
