"""Folders that take long to make, kept for the next time; one that was interrupted is made again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path


def staged(parent: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder ``name-KEY`` in ``parent``, made if it is not there. Those of other keys are removed.

    Args:
        key: everything that the content depends on, of any length.
        make: makes the folder at the path that it is given, which is beside the final one.
    """
    target = parent / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    for old in parent.glob(f"{name}-*"):
        if old != target:
            shutil.rmtree(old)
    if not target.exists():
        part = parent / f"{name}-part"
        make(part)
        part.rename(target)
    return target
