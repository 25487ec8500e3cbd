"""What identifies the installed core to the caches: a stored result is only used by the code that made it."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from mace_core.version import VERSION


@functools.cache
def build_id() -> str:
    """The version and a digest of every source file's name, size and time.

    An editable checkout changes without a new version, and so does a reinstalled one; looking at the files'
    metadata costs well under a millisecond.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        status = path.stat()
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{VERSION}+{digest.hexdigest()[:16]}"
