"""QNN libraries stay loaded: one interface per file and process."""

from __future__ import annotations

import atexit
import ctypes as c
import threading
from pathlib import Path

from mace_hexagon.qnn import interface
from mace_hexagon.qnn.interface import SUCCESS, Interface
from mace_hexagon.qnn.types import Handle

_loaded: dict[Path, Interface] = {}
_lock = threading.Lock()


def load(path: Path, *, keep_started: bool = False) -> Interface:
    """The interface of a library, loaded now if it was not.

    ``keep_started`` holds one backend handle until the process ends.  The emulation builds up large tables with the
    first handle (0.3 s) and tears them down with the last, and loses about 100 KB each time; while a handle is held,
    opening takes 2 ms and nothing grows.

    Raises:
        ProviderError: if it can not be used.
    """
    with _lock:
        found = _loaded.get(path)
        if found is None:
            found = interface.load(path)
            if keep_started:
                _hold_backend(found)
            _loaded[path] = found
        return found


def _hold_backend(library: Interface) -> None:
    handle = Handle()
    code = library.code("backendCreate", None, None, c.byref(handle))
    if code != SUCCESS:
        raise library.error(code, "start the backend")
    atexit.register(library.code, "backendFree", handle)
