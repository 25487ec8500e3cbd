"""Files and folders that things are made in before they take their place, and what killed processes left of them.

A process that is killed cannot clean up.  What it makes is locked while it lives; whoever makes something for the same
place next removes what nobody holds any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what is left stays
    fcntl = None  # type: ignore[assignment]

SUFFIX = ".part"

_YOUNG_SECONDS = 10.0
"""What is made may be that old before it is locked."""


def staging_path(place: Path) -> Path:
    """A new name beside ``place``."""
    return place.with_name(f".{place.name}.{uuid.uuid4().hex}{SUFFIX}")


@contextlib.contextmanager
def staging_folder(place: Path) -> Iterator[Path]:
    """A new folder beside ``place``, for what is to become that; when the block ends, what is still there is removed.

    Raises:
        OSError: if it cannot be made.
    """
    sweep(place)
    folder = staging_path(place)
    folder.mkdir()
    lock = None
    try:
        lock = _locked(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep(place: Path) -> None:
    """Remove what killed processes left when they made something for ``place``, files and folders."""
    if fcntl is None:
        return
    name = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{32}}{re.escape(SUFFIX)}")
    with contextlib.suppress(OSError), os.scandir(place.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and not entry.is_symlink():
                with contextlib.suppress(OSError):
                    _remove_left(Path(entry.path))


def _remove_left(path: Path) -> None:
    """Remove a file or a folder that nobody holds."""
    if time.time() - path.stat().st_mtime < _YOUNG_SECONDS:
        return
    lock = _locked(path)
    if lock is None:
        return
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(lock)


def _locked(path: Path) -> int | None:
    """A descriptor by which this process holds a file or a folder; None where another one does."""
    if fcntl is None:
        return None
    # neither follow a link nor wait for what somebody else's pipe of that name never gives
    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if hold(lock):
        return lock
    os.close(lock)
    return None


def hold(descriptor: int) -> bool:
    """Hold an open file or folder until it is closed; whether that succeeded.

    Where the file system has no locks, nobody holds anything, and nothing is removed either.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
