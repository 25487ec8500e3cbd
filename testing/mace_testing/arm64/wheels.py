"""What Python needs on the emulated machine, put together by the host's pip: nothing of it is emulated."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from mace_testing.arm64.debian import output

DISTRIBUTIONS = (".", "plugins/cpu", "testing")
"""Those of this repository that run there."""

TEST_REQUIREMENTS = ("hypothesis", "onnxruntime", "pytest", "pytest-timeout", "pytest-xdist", "filelock")

_OLDEST_GLIBC = 17
"""The minor version that manylinux2014 stands for."""


def requirements(project: Path) -> list[str]:
    """What the distributions of this repository need, without each other."""
    found = set(TEST_REQUIREMENTS)
    for folder in DISTRIBUTIONS:
        content = tomllib.loads((project / folder / "pyproject.toml").read_text(encoding="utf-8"))
        found.update(content["project"]["dependencies"])
    return sorted(each for each in found if not each.startswith("mace-"))


def glibc_minor(root: Path) -> int:
    """36, where a root folder has glibc 2.36."""
    content = next(root.glob("lib/*/libc.so.6"), None) or next(root.glob("usr/lib/*/libc.so.6"))
    versions = re.findall(rb"GNU C Library \([^)]*\) stable release version 2\.(\d+)", content.read_bytes())
    return int(versions[0])


def install_wheels(
    target: Path, needed: Sequence[str], constraints: Path, version: tuple[int, int], newest_glibc: int
) -> None:
    """Install wheels for arm64 into a folder.

    Args:
        version: of the Python that will read them.
        newest_glibc: the minor version of the C library that they will find.

    Raises:
        MaceError: where one cannot be had.
    """
    tags = ["manylinux2014_aarch64", *(f"manylinux_2_{i}_aarch64" for i in range(_OLDEST_GLIBC, newest_glibc + 1))]
    python = f"cp{version[0]}{version[1]}"
    output(
        [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--target", str(target)),
            *("--only-binary=:all:", "--implementation", "cp", "--python-version", ".".join(map(str, version))),
            *(part for abi in (python, "abi3", "none") for part in ("--abi", abi)),
            *(part for tag in tags for part in ("--platform", tag)),
            *("-c", str(constraints)),
            *needed,
        ],
        {"PIP_CONSTRAINT": "", "PIP_BUILD_CONSTRAINT": ""},
    )


def install_project(target: Path, project: Path) -> None:
    """Build the wheels of this repository and install them into a folder, without what they need."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheels = target.with_name(f"{target.name}-wheels")
    folders = [str(project / folder) for folder in DISTRIBUTIONS]
    output([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), *folders])
    files = sorted(map(str, wheels.glob("*.whl")))
    output([*pip, "install", "-q", "--no-deps", "--no-compile", "--target", str(target), *files])


def sources(project: Path, folders: Sequence[str] = ()) -> list[Path]:
    """Files of a checkout that git knows or would take, relative to it."""
    listed = subprocess.run(
        ["git", "-C", project, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *folders],
        capture_output=True,
        check=True,
    ).stdout
    paths = {Path(name.decode()) for name in listed.split(b"\0") if name}
    return sorted(path for path in paths if (project / path).is_file())


def content_key(project: Path, folders: Sequence[str]) -> str:
    """What changes with any file of these folders."""
    digest = hashlib.sha256()
    for path in sources(project, folders):
        digest.update(f"{path}\0".encode() + hashlib.sha256((project / path).read_bytes()).digest())
    return digest.hexdigest()
