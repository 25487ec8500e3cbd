"""When generated code is stale."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources


@functools.cache
def generator_version() -> str:
    """A hash of every file of this package: generated code is stale when one of them changes."""
    digest = hashlib.sha256()
    folder = importlib.resources.files("mace_cpu.codegen")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        if file.name.endswith(".py"):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
