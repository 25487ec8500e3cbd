"""QNN libraries stay loaded: one interface per file and process."""

from __future__ import annotations

import threading
from pathlib import Path

from mace_hexagon.qnn import interface
from mace_hexagon.qnn.interface import Interface

_loaded: dict[Path, Interface] = {}
_lock = threading.Lock()


def load(path: Path) -> Interface:
    """The interface of a library, loaded now if it was not.

    Raises:
        ProviderError: if it can not be used.
    """
    with _lock:
        found = _loaded.get(path)
        if found is None:
            found = _loaded[path] = interface.load(path)
        return found
