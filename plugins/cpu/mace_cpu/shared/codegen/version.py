"""When generated code is stale."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Iterator
from importlib.resources.abc import Traversable

NOT_GENERATING = ("lower", "choose", "match", "join", "kernels")
"""How the names of modules begin that no generator imports."""


@functools.cache
def generator_version() -> str:
    """A hash of every file that generators consist of: generated code is stale when one of them changes."""
    digest = hashlib.sha256()
    for name, file in sorted(_files(importlib.resources.files("mace_cpu"), "")):
        digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for file in folder.iterdir():
        if file.is_dir():
            yield from _files(file, f"{prefix}{file.name}/")
        elif prefix and file.name.endswith(".py") and not file.name.startswith(NOT_GENERATING):
            yield prefix + file.name, file
