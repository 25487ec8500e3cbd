"""Files as read-only memory, without a descriptor that stays open.

Python's ``mmap`` keeps a duplicate of the descriptor for as long as the mapping lives, though the system needs none.
So the place is reserved first, as memory without a file that Python looks after, and the file is mapped over it.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import weakref
from typing import Any

import numpy as np

_HAS_FIXED_MAPS = os.name == "posix" and hasattr(mmap, "MAP_ANONYMOUS")
_MAP_FIXED = 0x10  # the same on Linux, on Android and on the BSDs, macOS among them
_FAILED = ctypes.c_void_p(-1).value

_shared: weakref.WeakValueDictionary[tuple[int, ...], FileMapping] = weakref.WeakValueDictionary()


class FileMapping(mmap.mmap):
    """The content of a file, read-only."""


def map_file(descriptor: int, size: int, *, populate: bool = False) -> FileMapping:
    """The first ``size`` bytes of an open file as memory that lives as long as something refers to it.

    The descriptor may be closed at once.  Whoever maps a file that is mapped already gets the same memory.  If somebody
    truncates the file, the next look at the missing part kills the process; replacing or removing it is harmless.

    Args:
        populate: all of it is going to be read: one call of the system instead of a fault for each page.

    Raises:
        OSError, ValueError: if it cannot be mapped; ValueError also where it is shorter.
    """
    status = os.fstat(descriptor)
    if not 0 < size <= status.st_size:
        raise ValueError(f"{size} bytes of a file of {status.st_size} cannot be mapped")
    key = (status.st_dev, status.st_ino, size)
    found = _shared.get(key)  # its inode cannot become another file's while it is mapped
    if found is None:
        found = _shared[key] = _mapped(descriptor, size, populate)
    return found


def _mapped(descriptor: int, size: int, populate: bool) -> FileMapping:
    if not _HAS_FIXED_MAPS:
        return FileMapping(descriptor, size, access=mmap.ACCESS_READ)
    place = FileMapping(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    flags = mmap.MAP_SHARED | _MAP_FIXED | (getattr(mmap, "MAP_POPULATE", 0) if populate else 0)
    address = np.frombuffer(place, np.uint8).ctypes.data
    if _system_map()(address, size, mmap.PROT_READ, flags, descriptor, 0) == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return place


@functools.cache
def _system_map() -> Any:
    """``mmap`` of the C library."""
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype = ctypes.c_void_p
    call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return call
