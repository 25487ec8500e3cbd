"""When generated code is stale."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

NOT_GENERATING = ("lower", "choose", "match", "pass", "kernels")
"""How the names of modules begin that no generator imports."""

SHARED = (
    "shared/codegen",
    "shared/tiles",
    "shared/epilogue",
    "shared/layouts",
    "shared/pixels",
    "shared/precision.py",
    "shared/quads.py",
)
"""What generators of all families may import besides their own family's modules."""


def generator_version(module: str) -> str:
    """A hash of every file that a generator may import: what it generated is stale when one of them changes."""
    package, family, _ = module.split(".", 2)
    return _version(package, family)


@functools.cache
def _version(package: str, family: str) -> str:
    digest = hashlib.sha256()
    root = files(package)
    for part in (*SHARED, *([] if family == "shared" else [family])):
        for name, file in sorted(_sources(root / part, part)):
            digest.update(name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _sources(place: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    """Every file below ``place`` that a generator may import."""
    if not place.is_dir():
        if name.endswith(".py") and not place.name.startswith(NOT_GENERATING):
            yield name, place
        return
    for entry in place.iterdir():
        yield from _sources(entry, f"{name}/{entry.name}")
