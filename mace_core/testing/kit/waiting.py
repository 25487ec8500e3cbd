"""Things that others wait for, and waiting that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from mace_core.provider import Event

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""After this nobody waits any more: the check fails instead of hanging."""


class Gate(Event):
    """An event of the kit: whoever waits for it stands still until it is opened, or gets its error."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self.awaited = threading.Event()

    def open(self, error: BaseException | None = None) -> None:
        self._error = error
        self._opened.set()

    def wait(self) -> None:
        self.awaited.set()
        if not self._opened.wait(PATIENCE_SECONDS):
            raise AssertionError("the kit's event was never opened")
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        return self._opened.is_set()


class Started(threading.Thread):
    """A call under way in a thread of its own."""

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # raised again by whoever asks for the outcome
            self._error = error

    def finish(self, what: str) -> None:
        """Wait for it; raise what it raised."""
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), f"{what} did not come back in {PATIENCE_SECONDS:.0f} seconds"
        if self._error is not None:
            raise self._error

    def error(self, what: str) -> BaseException | None:
        """Wait for it, and give what it raised."""
        try:
            self.finish(what)
        except AssertionError:
            if self.is_alive():
                raise
            return self._error
        except BaseException as error:  # wanted by the caller
            return error
        return None
