"""The simulator's queue: a thread that runs commands in order, and events that tell when each is done."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Sequence

from mace_core.provider import Event, Stream


class AcmeEvent(Event):
    """Done when its command has run; waiting raises what the command raised."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None

    def finish(self, error: BaseException | None) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error

    @property
    def is_done(self) -> bool:
        return self._done.is_set()


class AcmeStream(Stream):
    """An in-order queue served by one thread.

    What fails takes with it whatever is queued behind it, since that may read what was not written; the queue works
    again once somebody has synchronized it and so been told.
    """

    def __init__(self, name: str) -> None:
        self._commands: queue.Queue[tuple[Callable[[], None], Sequence[Event], AcmeEvent] | None] = queue.Queue()
        self._last: AcmeEvent | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, command: Callable[[], None], wait: Sequence[Event]) -> AcmeEvent:
        """Run ``command`` after everything submitted before and after the events ``wait``."""
        event = AcmeEvent()
        self._last = event
        self._commands.put((command, wait, event))
        return event

    def synchronize(self) -> None:
        if self._last is None:
            return
        with contextlib.suppress(Exception):  # the first error is told, not the last
            self._last.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self) -> None:
        if self._thread.is_alive():
            self._commands.put(None)
            self._thread.join()

    def _serve(self) -> None:
        while (item := self._commands.get()) is not None:
            command, wait, event = item
            try:
                if self._failure is not None:
                    raise self._failure
                for earlier in wait:
                    earlier.wait()
                command()
            except BaseException as raised:  # handed to whoever waits for the event, or for the queue
                self._failure = self._failure or raised
                event.finish(raised)
            else:
                event.finish(None)
