"""The root folder of an arm64 Python from Debian's packages. They are unpacked, not installed: nothing is emulated."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import MaceError

ARCHITECTURE = "arm64"
PACKAGES = ("python3", "dash", "coreutils", "libstdc++6")
"""What is asked for; apt adds what these need."""


@dataclass(frozen=True)
class Archive:
    """One place that this machine's own apt has Debian's packages from."""

    uri: str
    suite: str
    component: str

    def line(self, keyring: str) -> str:
        """As a sources.list has it, for the other architecture."""
        return f"deb [arch={ARCHITECTURE} signed-by={keyring}] {self.uri} {self.suite} {self.component}"


KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"


def archives() -> list[Archive]:
    """Where this machine's apt has Debian's main packages from.

    Raises:
        MaceError: where there is no apt, or it knows no archive of Debian.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise MaceError(f"an arm64 root folder is made of packages of Debian: there is no '{program}' here")
    found = output(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"])
    rows = (line.split("|") for line in found.splitlines())
    kept = {Archive(*row[:3]): None for row in rows if len(row) == 4 and row[3] == "Debian" and row[2] == "main"}
    if not kept or not Path(KEYRING).exists():
        raise MaceError(
            "apt knows no archive of Debian here; on Debian, run `apt-get update`, and install debian-archive-keyring"
        )
    return list(kept)


def unpack_root(folder: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Make the root folder of a machine with these packages.

    Args:
        folder: a new one; packages and lists are kept beside it in ``apt``, so that the next one is made sooner.

    Raises:
        MaceError: where a package cannot be had.
    """
    apt = _Apt(folder.with_name("apt"))
    apt.write(archives())
    apt.run("update")
    apt.run("install", "--download-only", "--yes", "--no-install-recommends", *packages)
    wanted = apt.files(packages)
    folder.mkdir(parents=True)
    for package in wanted:
        output(["dpkg-deb", "--extract", str(package), str(folder)])
    for name in ("proc", "dev", "tmp", "sys", "root"):
        (folder / name).mkdir(exist_ok=True)


def python_version(root: Path) -> tuple[int, int]:
    """That of the Python in a root folder."""
    found = (root / "usr/bin/python3").readlink()
    match = re.fullmatch(r"python(\d+)\.(\d+)", found.name)
    if match is None:
        raise MaceError(f"{root}: /usr/bin/python3 leads to '{found}', which tells no version")
    return int(match[1]), int(match[2])


class _Apt:
    """An apt of its own: other lists, packages and state than the machine's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._configuration = folder / "apt.conf"

    def write(self, places: Sequence[Archive]) -> None:
        for name in ("lists/partial", "archives/partial", "etc/preferences.d", "log"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "etc/sources.list").write_text("".join(f"{place.line(KEYRING)}\n" for place in places))
        (self._folder / "status").write_text("")
        settings = {
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::State": str(self._folder),
            "Dir::State::lists": str(self._folder / "lists"),
            "Dir::State::status": str(self._folder / "status"),
            "Dir::Cache": str(self._folder),
            "Dir::Cache::archives": str(self._folder / "archives"),
            "Dir::Etc::sourcelist": str(self._folder / "etc/sources.list"),
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferencesparts": str(self._folder / "etc/preferences.d"),
            "Dir::Log": str(self._folder / "log"),
            "Debug::NoLocking": "true",
        }
        self._configuration.write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))

    def run(self, *arguments: str) -> str:
        return output(["apt-get", "-q", *arguments], {"APT_CONFIG": str(self._configuration)})

    def files(self, packages: Sequence[str]) -> list[Path]:
        """The packages that `install` would install, as files."""
        planned = self.run("install", "--simulate", "--no-install-recommends", *packages)
        chosen = re.findall(r"^Inst (\S+) \((\S+) ", planned, re.MULTILINE)
        found = []
        for name, version in chosen:
            stem = f"{name.partition(':')[0]}_{version.replace(':', '%3a')}"
            matches = [self._folder / f"archives/{stem}_{architecture}.deb" for architecture in (ARCHITECTURE, "all")]
            found.append(next(path for path in matches if path.exists()))
        return found


def output(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What a program of the host prints.

    Raises:
        MaceError: with the end of what it complains of, where it fails.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"} | (environment or {}), check=False
    )
    if done.returncode:
        last = "; ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-3:])
        raise MaceError(f"'{' '.join(command[:3])} …' failed ({done.returncode}): {last}")
    return done.stdout
