"""Wheels and sdists hold their own files and nothing else."""

from __future__ import annotations

import email
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["mace-core", "mace-cpu", "mace-opencl", "mace-hexagon", "mace-apu", "mace-npu", "mace-testing"]


def package_of(name: str) -> str:
    return name.replace("-", "_")


def folder_of(name: str) -> Path:
    folders = {"mace-core": ROOT, "mace-testing": ROOT / "testing"}
    return folders.get(name) or ROOT / "plugins" / name.removeprefix("mace-")


def sources(name: str) -> set[str]:
    """The package's files in the checkout."""
    folder = folder_of(name)
    package = folder / package_of(name)
    files = (path for path in package.rglob("*") if path.is_file() and not _is_generated(path.relative_to(folder)))
    return {path.relative_to(folder).as_posix() for path in files}


def _is_generated(path: Path) -> bool:
    """Caches of tools, which git ignores too."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def info_folder(info: set[str]) -> str:
    return next(iter(info)).partition("/")[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_holds_its_package_and_its_metadata(wheels: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(wheels[name]) as wheel:
        files = set(wheel.namelist())
    info = {file for file in files if ".dist-info/" in file}
    assert files - info == sources(name)
    assert f"{package_of(name)}/py.typed" in files
    assert {Path(file).name for file in info} >= {"METADATA", "WHEEL", "RECORD", "LICENSE"}
    assert (f"{info_folder(info)}/entry_points.txt" in info) is (name != "mace-testing")


@pytest.mark.parametrize("name", NAMES)
def test_an_sdist_holds_its_own_project_alone(sdists: dict[str, Path], name: str) -> None:
    with tarfile.open(sdists[name]) as archive:
        files = {Path(*Path(member.name).parts[1:]).as_posix() for member in archive if member.isfile()}
    assert sources(name) <= files
    allowed = {"PKG-INFO", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"}
    others = files - sources(name) - allowed
    if name == "mace-core":
        assert not others
    else:
        assert all(file.startswith("tests/") for file in others), others


@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_license_version_and_dependencies(wheels: dict[str, Path], name: str) -> None:
    with zipfile.ZipFile(wheels[name]) as wheel:
        (path,) = [file for file in wheel.namelist() if file.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(wheel.read(path))
    assert metadata["Name"] == name
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    requirements = [r for r in metadata.get_all("Requires-Dist") or [] if "extra ==" not in r]
    if name == "mace-core":
        assert not [r for r in requirements if r.startswith("mace-")]
    else:
        assert "mace-core~=0.1.0" in requirements


def test_plugins_need_nothing_heavy_unless_they_use_it() -> None:
    allowed = {"opencl": {"numpy", "pyopencl"}, "hexagon": {"numpy"}, "apu": {"numpy"}, "npu": {"numpy"}}
    for name, extra in allowed.items():
        project = tomllib.loads((ROOT / "plugins" / name / "pyproject.toml").read_text())["project"]
        assert "mace-core~=0.1.0" in project["dependencies"]
        assert {text.partition(">")[0] for text in project["dependencies"]} - {"mace-core~=0.1.0"} == extra


def test_nothing_in_the_core_imports_a_plugin() -> None:
    pattern = re.compile(r"^\s*(from|import) mace_(cpu|opencl|hexagon|apu|npu)\b", re.MULTILINE)
    guilty = [path for path in (ROOT / "mace_core").rglob("*.py") if pattern.search(path.read_text())]
    assert guilty == []


def test_the_constraints_pin_every_dependency_of_the_six() -> None:
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    for name in NAMES:
        project = tomllib.loads((folder_of(name) / "pyproject.toml").read_text())["project"]
        extras = project.get("optional-dependencies", {})
        for requirement in [*project["dependencies"], *extras.get("dev", [])]:
            wanted = re.sub(r"[-_.]+", "-", re.split(r"[<>=~!\[; ]", requirement)[0]).lower()
            assert wanted in pinned | set(NAMES), f"{name} needs {wanted}"
