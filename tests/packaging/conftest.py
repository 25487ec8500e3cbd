"""The six distributions, built once per run from a clean copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

PROJECTS = {
    "mace-core": ROOT,
    **{f"mace-{name}": ROOT / "plugins" / name for name in ("cpu", "opencl", "hexagon", "apu", "npu")},
    "mace-testing": ROOT / "testing",
}


def build(kind: str, target: Path) -> dict[str, Path]:
    """Build every distribution without isolation (hatchling is installed) and without network: name -> file."""
    files: dict[str, Path] = {}
    for name, project in PROJECTS.items():
        folder = target / name
        command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(project)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (files[name],) = folder.iterdir()
    return files


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build("wheel", tmp_path_factory.mktemp("wheels"))


@pytest.fixture(scope="session")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build("sdist", tmp_path_factory.mktemp("sdists"))


_PINNED = {name: str(ROOT / "constraints.txt") for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")}
"""Of pip before 25.3, and since."""

Environment = Callable[..., "subprocess.CompletedProcess[str]"]


def _venv(folder: Path, *options: str) -> Path:
    """A new virtual environment; the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", *options, str(folder)], check=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def _install(scripts: Path, *arguments: str) -> None:
    command = [str(scripts / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=scripts.parent, env={**os.environ, **_PINNED}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _runner(scripts: Path) -> Environment:
    folder = scripts.parent

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(scripts), "MACE_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)}
        # drivers of this machine are not what the test is about: with a folder of none, all machines are alike
        environment["OCL_ICD_VENDORS"] = str(folder)
        command = [str(scripts / program), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)

    return run


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """``clean_environment(requirements…)``: a new venv into which pip installed them; call it with a command.

    Dependencies, and what builds from sources, are of the versions in constraints.txt.
    """

    def make(*requirements: str) -> Environment:
        scripts = _venv(tmp_path_factory.mktemp("venv"))
        _install(scripts, *requirements)
        return _runner(scripts)

    return make


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy of it where that is in another file system."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the six need and with pip, and nothing else: the files that these tests run with."""
    wanted = ["pip"]
    for project in PROJECTS.values():
        wanted += tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    folder = tmp_path_factory.mktemp("dependencies")
    seen: set[str] = set()
    while wanted:
        requirement = Requirement(wanted.pop())
        if requirement.name in seen or requirement.name in PROJECTS:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        seen.add(requirement.name)
        found = metadata.distribution(requirement.name)
        wanted += found.requires or []
        for file in found.files or []:
            source = Path(str(found.locate_file(file)))
            if ".." not in file.parts and source.is_file() and not (folder / file).exists():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                _link(source, folder / file)
    return folder


@pytest.fixture(scope="session")
def wheel_environment(tmp_path_factory: pytest.TempPathFactory, dependencies: Path) -> Callable[..., Environment]:
    """As ``clean_environment``, for wheels: pip finds their dependencies installed, and asks no index for others."""

    def make(*wheels: Path) -> Environment:
        scripts = _venv(tmp_path_factory.mktemp("venv"), "--without-pip")
        (site,) = {path.resolve() for path in scripts.parent.glob("[Ll]ib/**/site-packages")}
        (site / "dependencies.pth").write_text(f"{dependencies}\n")
        _install(scripts, "--no-index", *map(str, wheels))
        return _runner(scripts)

    return make


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources as a fresh clone has them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode != 0:
        pytest.skip("git is needed to copy the checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "docs/")):
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    return tmp_path / "checkout"
