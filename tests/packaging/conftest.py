"""The six distributions, built once per run from a clean copy of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROJECTS = {
    "mace-core": ROOT,
    **{f"mace-{name}": ROOT / "plugins" / name for name in ("cpu", "opencl", "hexagon", "apu", "npu")},
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


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Environment]:
    """``clean_environment(requirements…)``: a new venv into which pip installed them; call it with a command.

    Dependencies, and what builds from sources, are of the versions in constraints.txt.
    """

    def make(*requirements: str) -> Environment:
        folder = tmp_path_factory.mktemp("venv")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        command = [str(scripts / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, *requirements], capture_output=True, text=True, cwd=folder, env={**os.environ, **_PINNED}
        )
        assert done.returncode == 0, done.stdout + done.stderr

        def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
            environment = {"PATH": str(scripts), "MACE_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)}
            return subprocess.run(
                [str(scripts / program), *arguments], capture_output=True, text=True, cwd=folder, env=environment
            )

        return run

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
