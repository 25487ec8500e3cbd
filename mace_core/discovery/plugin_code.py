"""What identifies the code of a plugin to the caches: its distribution, and the files that Python would import.

A class attribute does not do: it stays as it is where an editable checkout is changed, and where a build is installed
over another without a new number.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator

from mace_core.discovery.entry_points import PluginEntry

_OWN = "mace_core"
"""The core's code is told by `build_id`, which all caches have in their version."""


def plugin_code(entry: PluginEntry) -> str:
    """Distribution, version, and a digest of the files of the package that ``entry`` names, installed or editable.

    Nothing is imported.  Code of no file (an interactive session) is like no other process's.
    """
    return " ".join((entry.distribution or "in-process", entry.version, module_digest(entry.module)))


def module_digest(module: str) -> str:
    """A digest of names, sizes and times of all files of the package that ``module`` is in, bytecode left out; of the
    one file, for a module in no package."""
    top = module.partition(".")[0]
    if top == _OWN:
        return _OWN
    places = list(_places(top))
    if not places:
        return f"unknown {uuid.uuid4().hex}"
    digest = hashlib.sha256()
    for place in places:
        digest.update(f"{place}\n".encode(errors="surrogateescape"))
        for line in sorted(_describe(place)):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]


def same_version(a: str, b: str) -> bool:
    """Whether two spellings mean one version (PEP 440: ``1.0-rc1`` is ``1rc1``)."""
    return _plain_version(a) == _plain_version(b)


_SPELLINGS = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc", "rev": "post", "r": "post"}


def _plain_version(version: str) -> tuple[str, ...]:
    parts = re.findall(r"[0-9]+|[a-z]+", version.strip().lower().removeprefix("v"))
    plain = [str(int(part)) if part.isdigit() else _SPELLINGS.get(part, part) for part in parts]
    end = next((i for i, part in enumerate(plain) if not part.isdigit()), len(plain))
    release = plain[:end]
    while release and release[-1] == "0":
        release.pop()
    return (*release, *plain[end:])


def _places(top: str) -> Iterable[str]:
    """The folders of a package, or the file of a module."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        folders, file = getattr(loaded, "__path__", None), getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        folders, file = (None, None) if spec is None else (spec.submodule_search_locations, spec.origin)
    if folders is not None:
        return sorted(folders)
    return [file] if file else []


def _describe(place: str) -> Iterator[str]:
    """A line for each file in a folder, or for the file; of an archive, for the archive."""
    while place and not os.path.lexists(place):
        place, within = os.path.dirname(place), place  # noqa: PTH120
        if place == within:
            return
    if os.path.isdir(place):  # noqa: PTH112
        yield from _describe_folder(place)
    else:
        status = os.stat(place)  # noqa: PTH116
        yield f"{status.st_size} {status.st_mtime_ns}\n"


def _describe_folder(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from (f"{entry.name}/{line}" for line in _describe_folder(entry.path))
            else:
                try:
                    status = entry.stat()
                except OSError:  # a link to nothing
                    yield f"{entry.name} -\n"
                else:
                    yield f"{entry.name} {status.st_size} {status.st_mtime_ns}\n"
