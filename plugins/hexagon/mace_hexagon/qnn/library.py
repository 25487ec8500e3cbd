"""QNN libraries stay loaded: one interface per file and process."""

from __future__ import annotations

import atexit
import contextlib
import ctypes as c
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from mace_hexagon.qnn import interface
from mace_hexagon.qnn.interface import SUCCESS, Interface
from mace_hexagon.qnn.types import Handle

_log = logging.getLogger("mace.hexagon")
_CHATTER = b"# LIBNATIVE:"

_loaded: dict[Path, Interface] = {}
_lock = threading.Lock()


def load(path: Path, *, keep_started: bool = False) -> Interface:
    """The interface of a library, loaded now if it was not.

    ``keep_started`` holds one backend handle until the process ends.  The emulation builds up large tables with the
    first handle (0.3 s) and tears them down with the last, and loses about 100 KB each time; while a handle is held,
    opening takes 2 ms and nothing grows.

    Raises:
        ProviderError: if it cannot be used.
    """
    with _lock:
        found = _loaded.get(path)
        if found is None:
            with _stdout_kept_clean():
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


@contextlib.contextmanager
def _stdout_kept_clean() -> Iterator[None]:
    """The emulation greets on the standard output, where programs expect data; what else is written there is kept."""
    try:
        before = os.dup(1)
    except OSError:  # there is no standard output
        before = -1
    if before < 0 or sys.platform == "win32":
        yield
        return
    flush = c.CDLL(None).fflush
    if sys.stdout is not None:
        sys.stdout.flush()
    with tempfile.TemporaryFile() as caught:
        flush(None)
        os.dup2(caught.fileno(), 1)
        try:
            yield
        finally:
            flush(None)
            os.dup2(before, 1)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if line.strip().startswith(_CHATTER):
                    _log.debug("QNN: %s", line.decode("utf-8", "replace").strip())
                else:
                    os.write(before, line)
            os.close(before)
