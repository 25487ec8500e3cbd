"""One run that was asked for, from its call to its answer."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mace_core.errors import CancelledError, DeadlineError
from mace_core.host.process_end import at_work
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batching import Batcher
from mace_core.requests.future import RunFuture
from mace_core.requests.watch import Appointment, forget

_log = logging.getLogger("mace")

Run = Callable[[Mapping[str, Any], "Sequence[str] | None", CancelFlag], dict[str, Any]]
Answer: TypeAlias = "dict[str, Any] | BaseException"


@dataclass(slots=True, eq=False)
class Request:
    """One run that is asked for.

    Attributes:
        owner: the session; its requests are taken back when it is closed.
        label: how messages call its model.
        run: runs it.
        feeds, outputs, cancel: what that is called with.
        until: when its result is of no use any more (`time.monotonic`); None: never.
        batcher: puts it together with others; None where it runs by itself.
        devices: how many devices its model works on.
        ended: called once it is over, whatever came of it, before its future is done.
        key: equal for those that may run together; None where it runs by itself.
        rows: its part of a batch.
        group: those of the batch it runs in, itself included.
        together: stops the run of that batch.
    """

    owner: object
    label: str
    run: Run
    feeds: Mapping[str, Any]
    outputs: Sequence[str] | None
    priority: int
    until: float | None
    cancel: CancelFlag
    batcher: Batcher | None = None
    devices: int = 1
    ended: Callable[[], None] | None = None
    future: RunFuture = field(init=False)
    since: float = field(init=False, default_factory=time.monotonic)
    key: Hashable = field(init=False, default=None)
    rows: int = field(init=False, default=1)
    group: Sequence[Request] = field(init=False, default=())
    together: CancelFlag | None = field(init=False, default=None)
    appointments: list[Appointment] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if self.batcher is not None:
            key, self.rows = self.batcher.key(self.feeds, self.outputs)
            self.key = None if key is None else (id(self.owner), id(self.batcher), key)

    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.until is not None and time.monotonic() >= self.until

    def late(self) -> DeadlineError:
        """What its future raises if it is."""
        waited = time.monotonic() - self.since
        return DeadlineError(f"{self.label}: the deadline passed {waited:.3f} s after the run was asked for")

    def stop(self) -> None:
        """Stop its run; that of a batch once all of the batch are stopped."""
        self.cancel.set()
        together = self.together
        if together is not None and all(request.cancel.is_set for request in self.group):
            together.set()

    def alone(self) -> Answer:
        """Run it by itself."""
        if self.is_late():
            return self.late()
        if self.cancel.is_set:
            return CancelledError(f"{self.label}: the run was cancelled before it began")
        try:
            with at_work():
                return self.run(self.feeds, self.outputs, self.cancel)
        except BaseException as error:  # the future raises it where somebody waits
            return self.late() if isinstance(error, CancelledError) and self.is_late() else error

    def answer(self, found: Answer) -> None:
        """Set the future's result; whoever waits for it goes on, and its callbacks are called on this thread."""
        for entry in self.appointments:
            forget(entry)
        self.appointments.clear()
        if self.ended is not None:
            self.ended()
        # a future may be kept for long, and must not keep what was fed
        self.feeds, self.group, self.run, self.ended = {}, (), _run_is_over, None
        try:
            if isinstance(found, BaseException):
                _forget_locals(found)
                self.future.fail(found)
            else:
                self.future.succeed(found)
        except BaseException:
            _log.exception("%s: a callback of a run failed", self.label)


def _run_is_over(*_: object) -> dict[str, Any]:
    raise AssertionError("a request was run after its answer")


def _forget_locals(error: BaseException) -> None:
    """Free what the frames of a traceback hold: arrays of the run that failed."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
