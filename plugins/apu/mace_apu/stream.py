"""Runs in the background through the library's events: one is prepared while the one before it computes.

One thread starts runs, each behind the run before it (``startComputeWithDependencies``), another waits for their ends
and does what is left to do on the processor.  Two runs at most are with the library.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from mace_core.errors import ProviderError
from mace_core.provider import Bindings, Event, Stream

if TYPE_CHECKING:
    from mace_apu.execution import ApuExecution
    from mace_apu.neuron.handles import NeuronEvent


class ApuEvent(Event):
    """Completion of a run."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()

    def wait(self) -> None:
        """Block until the run is done; raises what it raised."""
        self.future.result()

    @property
    def is_done(self) -> bool:
        """Whether the run has ended, well or badly."""
        return self.future.done()


class _Flight:
    """A run that was started.

    Attributes:
        event: what the core waits for.
        before: the run that the library runs first, until this one has ended.
        needs: whether this one is not to be done if ``before`` fails.
    """

    def __init__(self, execution: ApuExecution, bindings: Bindings, event: ApuEvent) -> None:
        self.execution = execution
        self.bindings = bindings
        self.event = event
        self.before: _Flight | None = None
        self.needs = False
        self.handle: NeuronEvent | None = None
        self.lock = threading.Lock()  # held while the handle is used, and while it is given up

    @property
    def failed(self) -> bool:
        """Whether it failed; waits for its end."""
        return self.event.future.exception() is not None

    def start(self) -> None:
        before = self.before
        if before is None:
            self.handle = self.execution.start(self.bindings)
            return
        with before.lock:
            self.handle = self.execution.start(self.bindings, before.handle)

    def end(self) -> None:
        assert self.handle is not None
        try:
            self.handle.wait()
        except ProviderError:
            if self.before is None or not self.before.failed:
                raise
            if self.needs:
                self.before.event.wait()  # raises what happened to that one
            self.execution.compute()  # the library gave it up with the one before, which it does not need
        finally:
            with self.lock:
                handle, self.handle = self.handle, None
                handle.close()
        self.execution.end(self.bindings)


class ApuStream(Stream):
    """An in-order queue of a library that has events."""

    def __init__(self, name: str) -> None:
        """``name`` is that of the threads, for debuggers."""
        self._starter = ThreadPoolExecutor(1, f"{name} starts")
        self._finisher = ThreadPoolExecutor(1, f"{name} ends")
        self._unsettled: list[Future[None]] = []
        self._last: _Flight | None = None  # of the starting thread

    def submit(self, execution: ApuExecution, bindings: Bindings, wait: Sequence[Event]) -> ApuEvent:
        """Run behind all that was submitted before and once the events of ``wait`` are done."""
        event = ApuEvent()
        self._unsettled = [
            earlier for earlier in self._unsettled if not earlier.done() or earlier.exception() is not None
        ]
        self._unsettled.append(event.future)
        self._starter.submit(self._start, _Flight(execution, bindings, event), tuple(wait))
        return event

    def synchronize(self) -> None:
        """Block until all work is done; raises what the first that failed since the last call raised."""
        unsettled, self._unsettled = self._unsettled, []
        failures = [error for future in unsettled if (error := future.exception()) is not None]
        if failures:
            raise failures[0]

    def close(self) -> None:
        """End the threads, after the work that is left.  Idempotent."""
        self._starter.shutdown()
        self._finisher.shutdown()

    # --- in the starting thread ------------------------------------------------------------------------------------

    def _start(self, flight: _Flight, wait: Sequence[Event]) -> None:
        try:
            self._launch(flight, wait)
        except BaseException as error:
            flight.event.future.set_exception(error)
            return
        self._last = flight
        self._finisher.submit(_finish, flight)

    def _launch(self, flight: _Flight, wait: Sequence[Event]) -> None:
        last, self._last = self._last, None
        if last is not None and (last.event.is_done or not flight.execution.may_follow(last.execution)):
            last.event.future.exception()  # waits; whether it failed is told below, to those who need it
            last = None
        for event in wait:
            if last is None or event is not last.event:
                event.wait()
        if last is not None:
            if last.before is not None:
                last.before.event.future.exception()
            flight.before, flight.needs = last, any(event is last.event for event in wait)
        try:
            flight.start()
        except ProviderError:
            if last is None or not last.failed:
                raise
            if flight.needs:
                last.event.wait()
            flight.before = None  # refused since the one before failed, which it does not need
            flight.start()


def _finish(flight: _Flight) -> None:
    try:
        flight.end()
    except BaseException as error:
        flight.event.future.set_exception(error)
    else:
        flight.event.future.set_result(None)
    flight.before = None
