"""The sessions that stand in for one while it runs on other devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from mace_core.errors import ModelError, UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.tensor.files import file_identity


class _Closable(Protocol):
    def close(self) -> None: ...


_S = TypeVar("_S", bound=_Closable)


class Places(Generic[_S]):
    """Opens a session once for each choice of devices, and keeps it, so that going there again costs nothing.

    Args:
        model: what the session was opened with.
        label: how messages call it.
        open_on: opens the file on other devices.
    """

    def __init__(self, model: object, label: str, open_on: Callable[[str, tuple[str, ...]], _S]) -> None:
        self._path = os.fspath(model) if isinstance(model, str | os.PathLike) else None
        self._identity = None if self._path is None else file_identity(self._path)
        self._label = label
        self._open_on = open_on
        self._opened: dict[tuple[str, ...], _S] = {}
        self._lock = fork_safe_lock()
        self._is_closed = False

    def on(self, devices: Sequence[str]) -> _S:
        """The session on these devices.

        Raises:
            UsageError: if the model came from no file, so that it cannot be opened once more, or names are none.
            ModelError: if the file has changed meanwhile.
            MaceError: as opening a session does.
        """
        if isinstance(devices, str) or not devices:
            raise UsageError(f"{self._label}: devices are a list of at least one name, not {devices!r}")
        wanted = tuple(devices)
        with self._lock:
            if wanted not in self._opened:
                if self._path is None:
                    raise UsageError(
                        f"{self._label}: only a session that was opened from a file can go to other devices: "
                        "save the model and open the file"
                    )
                if file_identity(self._path) != self._identity:
                    raise ModelError(f"'{self._path}' has changed since the session was opened: open a new one")
                if self._is_closed:
                    raise UsageError(f"the session of {self._label} is closed")
                self._opened[wanted] = self._open_on(self._path, wanted)
            return self._opened[wanted]

    def close(self) -> None:
        """Close them."""
        with self._lock:
            self._is_closed = True
            opened, self._opened = list(self._opened.values()), {}
        for session in opened:
            session.close()
