"""Refuses allocations that this machine, or the container around this process, has no room for.

Linux grants memory that is not there and kills the process that touches it; asking first turns that into an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mace_core.errors import MaceError, OutOfMemoryError, advice_for

CHECKED_FROM_BYTES = 256 << 20
"""Smaller allocations are not worth the look (some 50 microseconds)."""


def require_host_memory(nbytes: int) -> None:
    """Check that there is room for one large allocation.

    Raises:
        OutOfMemoryError: if there is not, with what is needed and what is there.
    """
    if nbytes < CHECKED_FROM_BYTES:
        return
    available = available_bytes()
    if nbytes > available:
        error = OutOfMemoryError(
            f"{nbytes / 1e9:.1f} GB of host memory are needed at once and {available / 1e9:.1f} GB are available; "
            "give the model smaller inputs"
        )
        error.needed_bytes = nbytes
        raise error


@contextlib.contextmanager
def memory_needed(doing: str) -> Iterator[None]:
    """Tell an exhausted memory in the body as an error of ours; ``doing`` names what needed it, model first.

    Raises:
        OutOfMemoryError: in the place of ``MemoryError``.
        MaceError: in the place of an ``OSError`` that says that no more files may be open.
    """
    try:
        yield
    except OSError as error:
        found = files_exhausted(error, doing)
        if found is None:
            raise
        raise found from error
    except OutOfMemoryError:  # says already what needed it
        raise
    except MemoryError as error:
        detail = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(f"{doing} needs more memory than there is{detail}; give it smaller inputs") from error


def files_exhausted(error: BaseException, doing: str) -> MaceError | None:
    """The error of ours for one of the system's that says that no more files may be open; None for any other."""
    advice = "" if isinstance(error, MaceError) else advice_for(error)
    return MaceError(f"{doing} needs more open files than there may be; {advice}") if advice else None


def return_free_memory() -> None:
    """Give the system back what was freed, where the C library keeps it for later allocations (glibc)."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; TypeError: Windows
        return None


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping: the machine's, or what the container's limit leaves if that is less.

    Args:
        root: where the container's ``sys`` is looked for.
    """
    import psutil

    found = int(psutil.virtual_memory().available)
    for limit, used in _CGROUP_FILES:
        allowed = _number(root / "sys/fs/cgroup" / limit)
        if allowed is not None:
            found = min(found, max(0, allowed - _working_set(root / "sys/fs/cgroup", used)))
    return found


_CGROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def _working_set(folder: Path, used: str) -> int:
    """Bytes in use less the cached file pages, which the kernel gives up when asked for memory."""
    path = folder / used
    cached = 0
    try:
        for line in (path.parent / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "active_file"):
                cached += int(value)
    except (OSError, ValueError):
        cached = 0
    return max(0, (_number(path) or 0) - cached)


def _number(path: Path) -> int | None:
    """The number in a file; None for "max", and where there is no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
