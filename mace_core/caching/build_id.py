"""What identifies the installed core to the caches: a stored result is only used by the code that made it."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import mace_core
from mace_core.version import VERSION


@functools.cache
def build_id(package: Path | None = None) -> str:
    """The core's version and a digest of every source file's name, size and time.

    Args:
        package: the folder of a package of a plugin, whose files are looked at instead of the core's.

    An editable checkout changes without a new version, and so does a reinstalled one; looking at the files'
    metadata costs well under a millisecond.
    """
    digest = hashlib.sha256()
    for line in sorted(_describe_sources(str(package or mace_core.__path__[0]))):
        digest.update(line.encode())
    return f"{VERSION}+{digest.hexdigest()[:16]}"


def _describe_sources(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from (f"{entry.name}/{line}" for line in _describe_sources(entry.path))
            elif entry.name.endswith(".py"):
                status = entry.stat()
                yield f"{entry.name} {status.st_size} {status.st_mtime_ns}\n"
