"""The queue of a device: requests of all sessions in the order of priority and deadline, and threads that run them."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mace_core.errors import CancelledError, DeadlineError, QueueFullError, UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.process_end import at_work
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batching import Batcher
from mace_core.requests.future import RunFuture
from mace_core.requests.watch import watch

_log = logging.getLogger("mace")

IDLE_SECONDS = 2.0
"""A thread with nothing to do for so long ends; the next request starts another one."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What a device's queue holds and does at once.

    Attributes:
        waiting: the most requests that wait; further ones are refused, or wait for room.
        running: how many requests run at the same time.
    """

    waiting: int = 64
    running: int = 1

    def __post_init__(self) -> None:
        if self.waiting < 1 or self.running < 1:
            raise UsageError(f"a queue has room for one request at least and runs one, not {self}")


Run = Callable[[Mapping[str, Any], "Sequence[str] | None", CancelFlag], dict[str, Any]]


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
    future: RunFuture = field(init=False)
    since: float = field(init=False, default_factory=time.monotonic)

    def is_late(self) -> bool:
        """Whether its deadline has passed."""
        return self.until is not None and time.monotonic() >= self.until

    def fail_late(self) -> None:
        """Answer it: there was no time left."""
        waited = time.monotonic() - self.since
        self.future.fail(DeadlineError(f"{self.label}: the deadline passed {waited:.3f} s after the run was asked for"))


class DeviceQueue:
    """Requests for one device, of any number of sessions.

    The highest priority goes first, then the earliest deadline, then the one that came first.
    """

    def __init__(self, name: str, limits: QueueLimits | None = None) -> None:
        self.name = name
        self.limits = limits or QueueLimits()
        self._changed = threading.Condition(fork_safe_lock())
        self._waiting: list[tuple[int, float, int, Request]] = []
        self._running: dict[Request, None] = {}
        self._threads = 0
        self._idle = 0
        self._count = itertools.count()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    def submit(self, request: Request, wait: float | None) -> RunFuture:
        """Put a request into the queue.

        Args:
            wait: seconds to wait for room where the queue is full; None: as long as it takes.

        Raises:
            QueueFullError: if there is no room by then.
        """
        request.future = RunFuture(request.cancel, lambda: self._take_back(request))
        until = None if wait is None else time.monotonic() + wait
        with self._changed:
            while len(self._waiting) >= self.limits.waiting:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise QueueFullError(
                        f"{request.label}: {len(self._waiting)} requests wait for {self.name} already; wait for some "
                        f"of them, or give the queue more room with set_queue_limits"
                    )
                self._changed.wait(left)
            deadline = float("inf") if request.until is None else request.until
            heapq.heappush(self._waiting, (-request.priority, deadline, next(self._count), request))
            if not self._idle and self._threads < self.limits.running:
                self._threads += 1
                threading.Thread(target=self._work, name=f"mace {self.name}", daemon=True).start()
            self._changed.notify_all()
        return request.future

    def drop(self, owner: object, error: BaseException) -> None:
        """Take back what waits of one session, stop what runs of it, and wait until that has ended."""
        with self._changed:
            gone = [entry[-1] for entry in self._waiting if entry[-1].owner is owner]
            self._keep(lambda request: request.owner is not owner)
            running = [request for request in self._running if request.owner is owner]
            for request in running:
                request.cancel.set()
            while any(request in self._running for request in running):
                self._changed.wait(1.0)
        for request in gone:
            request.future.fail(error)

    def _take_back(self, request: Request) -> bool:
        with self._changed:
            if not any(entry[-1] is request for entry in self._waiting):
                return False
            self._keep(lambda other: other is not request)
            return True

    def _keep(self, wanted: Callable[[Request], bool]) -> None:
        self._waiting = [entry for entry in self._waiting if wanted(entry[-1])]
        heapq.heapify(self._waiting)
        self._changed.notify_all()

    # --- the threads ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._run(batch)
            finally:
                with self._changed:
                    for request in batch:
                        self._running.pop(request, None)
                    self._changed.notify_all()
            del batch  # nothing of the model is held while the thread waits

    def _next(self) -> list[Request] | None:
        """The requests to run next, those that waited too long answered; None: there is nothing to do any more."""
        late: list[Request] = []
        try:
            with self._changed:
                while True:
                    while self._waiting:
                        request = heapq.heappop(self._waiting)[-1]
                        self._changed.notify_all()
                        if request.is_late():
                            late.append(request)
                            continue
                        batch = [request]
                        if request.batcher is not None:
                            self._gather(request, request.batcher, batch)
                        self._running.update(dict.fromkeys(batch))
                        return batch
                    if late:
                        self._answer(late)
                    self._idle += 1
                    has_more = self._changed.wait_for(lambda: bool(self._waiting), IDLE_SECONDS)
                    self._idle -= 1
                    if not has_more:
                        self._threads -= 1
                        return None
        finally:
            self._answer(late)

    def _answer(self, late: list[Request]) -> None:
        while late:
            late.pop().fail_late()

    def _gather(self, first: Request, batcher: Batcher, batch: list[Request]) -> None:
        """Add to ``batch`` what can run together with ``first``, waiting a little for more."""
        until = first.since + batcher.limits.max_delay
        if first.until is not None:
            until = min(until, first.until)
        while True:
            for entry in sorted(self._waiting):
                other = entry[-1]
                is_alike = other.owner is first.owner and other.outputs == first.outputs
                if is_alike and not other.is_late() and batcher.fits([r.feeds for r in batch], other.feeds):
                    batch.append(other)
                    self._waiting.remove(entry)
                    heapq.heapify(self._waiting)
                    self._changed.notify_all()
            left = until - time.monotonic()
            if left <= 0 or batcher.is_full([r.feeds for r in batch]):
                return
            self._changed.wait(left)

    def _run(self, batch: list[Request]) -> None:
        if len(batch) > 1:
            self._run_together(batch)
            return
        (request,) = batch
        try:
            with at_work(), watch(request.until, request.cancel):
                outputs = request.run(request.feeds, request.outputs, request.cancel)
        except CancelledError as error:
            if request.is_late():
                request.fail_late()
            else:
                request.future.fail(error)
        except BaseException as error:  # the future raises it where somebody waits
            request.future.fail(error)
        else:
            request.future.succeed(outputs)

    def _run_together(self, batch: list[Request]) -> None:
        """One run for all; where that fails, each by itself, so that one request's fault is not the others'."""
        batcher = batch[0].batcher
        assert batcher is not None
        flag = CancelFlag()  # stops the run for all, so that no single request's does
        try:
            with at_work():
                outputs = batch[0].run(batcher.joined([r.feeds for r in batch]), batch[0].outputs, flag)
            parts = batcher.parted(outputs, [r.feeds for r in batch])
        except Exception as error:
            _log.info("%s: a batch of %d requests failed, each is run alone: %s", batch[0].label, len(batch), error)
            for request in batch:
                if request.cancel.is_set:
                    request.future.fail(CancelledError("the run was cancelled before it began"))
                else:
                    self._run([request])
            return
        for request, part in zip(batch, parts, strict=True):
            if request.cancel.is_set:
                request.future.fail(CancelledError("the run was cancelled"))
            else:
                request.future.succeed(part)


_queues: dict[str, DeviceQueue] = {}
_lock = fork_safe_lock()


def queue_of(device: str) -> DeviceQueue:
    """The queue of a device, by its qualified name; all sessions share it."""
    with _lock:
        return _queues.setdefault(device, DeviceQueue(device))


def queues() -> list[DeviceQueue]:
    """All queues there are."""
    with _lock:
        return list(_queues.values())


def set_queue_limits(device: str, limits: QueueLimits) -> None:
    """How much the queue of a device (its qualified name) holds, and how many requests run at once, from now on."""
    queue_of(device).limits = limits
