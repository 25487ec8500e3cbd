"""Files whose bytes become weights: mapped read-only, or read into memory."""

from __future__ import annotations

import mmap as mmap_module
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError, ModelNotFoundError, model_file_error


class FileBytes(NamedTuple):
    """The content of a file as a flat, read-only uint8 array; the array keeps the mapping alive."""

    path: Path
    data: npt.NDArray[np.uint8]


def open_bytes(path: Path, *, mmap: bool, what: str = "model file") -> FileBytes:
    """The bytes of ``path``, mapped (``mmap``) or read.

    A mapped file is not copied and costs memory only where it is looked at.  If somebody truncates it meanwhile, the
    next look at the missing part kills the process; replacing the file by renaming another over it is harmless.

    Raises:
        ModelError: if it can not be opened or is empty; ``what`` names the file's role.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if mmap and size > 0:
                mapped: Any = mmap_module.mmap(file.fileno(), 0, access=mmap_module.ACCESS_READ)
                return FileBytes(path, np.frombuffer(mapped, np.uint8))
            content = file.read()
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"The {what} '{path}' does not exist.", path) from error
    except OSError as error:
        raise model_file_error(f"The {what} '{path}' can not be read: {error}.", error, path) from error
    except ValueError as error:
        raise ModelError(f"The {what} '{path}' can not be read: {error}.") from error
    if not content:
        raise ModelError(f"The {what} '{path}' is empty.")
    return FileBytes(path, np.frombuffer(content, np.uint8))


def file_identity(path: str | os.PathLike[str]) -> list[Any] | None:
    """What tells a file from another one and from its own later versions, or None if it is not there.

    Resolved path, size in bytes, modification time in ns, inode.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - follows links, takes what pathlib would have to be built for
        return [os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino]
    except OSError:
        return None
