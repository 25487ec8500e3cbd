"""Files whose bytes become weights: mapped read-only, or read into memory."""

from __future__ import annotations

import mmap as mmap_module
import os
import time
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError, ModelNotFoundError, model_file_error
from mace_core.host.mapping import FileMapping, map_file

_TICK_SECONDS = 0.02
"""Two changes of a file within this time may get one time stamp: the kernel's clock for them ticks every 1 to 10 ms."""
_COARSE_SECONDS = 2.0
"""The same for file systems that note whole seconds (FAT: every other)."""

FileIdentity: TypeAlias = tuple[Any, ...]
"""See `file_identity`."""


class FileBytes(NamedTuple):
    """The content of a file as a flat, read-only uint8 array; the array keeps the mapping alive.

    ``identity`` is the file's as it was opened, None where it is not settled (see `settled_identity`).
    """

    path: Path
    data: npt.NDArray[np.uint8]
    identity: FileIdentity | None = None


def open_bytes(path: Path, *, mmap: bool, what: str = "model file") -> FileBytes:
    """The bytes of ``path``, mapped (``mmap``) or read.

    A mapped file is not copied and costs memory only where it is looked at.  If somebody truncates it meanwhile, the
    next look at the missing part kills the process; replacing the file by renaming another over it is harmless.

    Raises:
        ModelError: if it cannot be opened or is empty; ``what`` names the file's role.
    """
    try:
        with path.open("rb") as file:
            identity = settled_identity(path, file.fileno())
            size = os.fstat(file.fileno()).st_size
            if mmap and size > 0:
                return FileBytes(path, np.frombuffer(map_file(file.fileno(), size), np.uint8), identity)
            content = file.read()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"the {what} '{path}' does not exist", path) from error
    except OSError as error:
        raise model_file_error(f"the {what} '{path}' cannot be read: {error}", error, path) from error
    except ValueError as error:
        raise ModelError(f"the {what} '{path}' cannot be read: {error}") from error
    if not content:
        raise ModelError(f"the {what} '{path}' is empty")
    return FileBytes(path, np.frombuffer(content, np.uint8), identity)


def file_identity(path: str | os.PathLike[str], descriptor: int | None = None) -> FileIdentity | None:
    """What tells a file from another one and from its own later versions, or None if it is not there.

    Resolved path, size in bytes, times of modification and of change in ns, inode.  Everybody may set the time of
    modification; that of change is the system's own (on Windows, which has none, it is that of creation).  The number
    of the device is left out, because many systems give another one at each start.

    Args:
        path: of the file.
        descriptor: of the file, where it is open: then it is this very file that is looked at.
    """
    try:
        status = os.stat(path if descriptor is None else descriptor)  # noqa: PTH116 - pathlib would have to be built for
        return (os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    except OSError:
        return None


def settled_identity(path: str | os.PathLike[str], descriptor: int | None = None) -> FileIdentity | None:
    """As `file_identity`, once every later change of the file will give another one; None where that takes too long.

    A file that was changed a moment ago may be changed again without that showing in its times.  Where the file system
    notes fractions of seconds this waits until that moment has passed, 20 ms at most.  Call it before the file is read.
    """
    identity = file_identity(path, descriptor)
    if identity is None:
        return None
    changed = identity[2 if os.name == "nt" else 3]
    missing = unsettled_seconds(changed, time.time_ns())
    if missing > _TICK_SECONDS:
        return None
    if missing > 0:
        time.sleep(missing)
        later = file_identity(path, descriptor)
        return later if later == identity else None
    return identity


def unsettled_seconds(changed_ns: int, now_ns: int) -> float:
    """For how long from now on a change of a file may still go unnoticed.

    Args:
        changed_ns: the file's time of change.
        now_ns: the time by the same clock; where a server's clock is ahead the file seems to come from the future, and
            is left alone until then.
    """
    coarse = changed_ns % 1_000_000_000 == 0
    return max(0.0, (_COARSE_SECONDS if coarse else _TICK_SECONDS) - (now_ns - changed_ns) / 1e9)


def release_pages(payload: npt.NDArray[Any]) -> int:
    """Give memory of a mapped file back to the system, which reads it again from the file if it is needed.

    Args:
        payload: an array that lies in a file mapped by `open_bytes`; of anything else nothing is given back.

    Returns:
        How many bytes were given back: those of the pages that lie wholly in ``payload``.
    """
    owner: Any = payload
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    advice = getattr(mmap_module, "MADV_DONTNEED", None)
    if advice is None or not isinstance(owner, FileMapping) or not payload.flags.c_contiguous:
        return 0
    whole = np.frombuffer(owner, np.uint8)
    start = payload.ctypes.data - whole.ctypes.data
    first = -(-start // mmap_module.PAGESIZE) * mmap_module.PAGESIZE
    last = (start + payload.nbytes) // mmap_module.PAGESIZE * mmap_module.PAGESIZE
    if last <= first:
        return 0
    owner.madvise(advice, first, last - first)
    return last - first
