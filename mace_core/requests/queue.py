"""The queue of a device: requests of all sessions in the order of priority and deadline, and threads that run them."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.errors import CancelledError, QueueFullError, UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.process_end import at_work
from mace_core.provider.execution import CancelFlag
from mace_core.requests.future import RunFuture
from mace_core.requests.request import Answer, Request
from mace_core.requests.watch import call_at, is_watching

_log = logging.getLogger("mace")

IDLE_SECONDS = 2.0
"""A thread with nothing to do for so long ends; the next request starts another one."""

Entry: TypeAlias = "tuple[int, float, int, Request]"


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What a device's queue holds and does at once.

    Attributes:
        waiting: the most requests that wait; further ones are refused, or wait for room.
        running: how many requests run at the same time; None: as many as there are devices that the model works on, so
            that one request is on each of them.
    """

    waiting: int = 64
    running: int | None = None

    def __post_init__(self) -> None:
        if self.waiting < 1 or (self.running is not None and self.running < 1):
            raise UsageError(f"a queue has room for one request at least and runs one, not {self}")


class DeviceQueue:
    """Requests for one device, of any number of sessions.

    The highest priority goes first, then the earliest deadline, then the one that came first.  Nothing is answered
    while the lock is held, for an answer calls whatever an application has added to the future.

    Attributes:
        batch_sizes: how many runs answered one request, two, and so on.
        busy_seconds: time in which it ran something; of runs at the same time each counts.
    """

    def __init__(self, name: str, limits: QueueLimits | None = None) -> None:
        self.name = name
        self.batch_sizes: dict[int, int] = {}
        self.busy_seconds = 0.0
        self._limits = limits or QueueLimits()
        self._count = itertools.count()
        self.reset()
        _all.add(self)

    def reset(self) -> None:
        """Begin anew, as the child of a fork must: it has no threads, and what its parent was asked is not for it."""
        self._changed = threading.Condition(fork_safe_lock())
        self._waiting: list[Entry] = []
        self._entering: list[Entry] = []  # for which there is no room yet
        self._running: dict[Request, None] = {}
        self._workers: set[int] = set()
        self._threads = 0
        self._idle = 0

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many requests run."""
        return len(self._running)

    @property
    def limits(self) -> QueueLimits:
        """What it holds and does at once; may be set."""
        return self._limits

    @limits.setter
    def limits(self, limits: QueueLimits) -> None:
        with self._changed:
            self._limits = limits
            self._admit()

    def submit(self, request: Request, wait: float | None) -> RunFuture:
        """Put a request into the queue.

        Args:
            wait: seconds to wait for room where the queue is full; None: as long as it takes.  A thread that must not
                wait (it runs an event loop, works for this queue, or ends what is late) gets the future at once; that
                waits for room, and raises the error.

        Raises:
            QueueFullError: if there is no room by then.
        """
        request.future = RunFuture(request.cancel, lambda: self._cancelled(request))
        deadline = float("inf") if request.until is None else request.until
        entry = (-request.priority, deadline, next(self._count), request)
        if request.until is not None:
            self._at(request, request.until, lambda: self._late(request))
        try:
            is_waiting = self._enter(entry, can_wait=wait != 0)
        except BaseException as error:  # there is no room, or no thread could be started
            request.answer(error)
            raise
        if not is_waiting:
            until = None if wait is None else time.monotonic() + wait
            if self._may_block():
                self._wait_for_room(entry, until)
            elif until is not None:
                self._at(request, until, lambda: self._refuse(request))
        return request.future

    def drop(self, owner: object, error: BaseException) -> None:
        """Take back what waits of one session, stop what runs of it, and wait until that has ended."""
        with self._changed:
            gone = self._remove(lambda request: request.owner is owner)
            running = [request for request in self._running if request.owner is owner]
        for request in gone:
            request.answer(error)
        for request in running:
            request.stop()
        with self._changed:
            while any(request in self._running for request in running):
                self._changed.wait(1.0)

    # --- room -----------------------------------------------------------------------------------------------------

    def _enter(self, entry: Entry, *, can_wait: bool) -> bool:
        """Whether there was room."""
        request = entry[-1]
        with self._changed:
            if len(self._waiting) >= self._limits.waiting and not can_wait:
                raise self._full(request)
            heapq.heappush(self._entering, entry)
            try:
                self._admit()
            except BaseException:
                self._waiting = [other for other in self._waiting if other is not entry]
                self._entering = [other for other in self._entering if other is not entry]
                heapq.heapify(self._waiting)
                heapq.heapify(self._entering)
                raise
            return not any(other is entry for other in self._entering)

    def _full(self, request: Request) -> QueueFullError:
        return QueueFullError(
            f"{request.label}: {self._limits.waiting} requests wait for {self.name} already; wait for some of them, or "
            f"give the queue more room with set_queue_limits"
        )

    def _may_block(self) -> bool:
        if threading.get_ident() in self._workers or is_watching():
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
        return False

    def _wait_for_room(self, entry: Entry, until: float | None) -> None:
        request = entry[-1]
        try:
            with self._changed:
                while any(other is entry for other in self._entering):
                    left = None if until is None else until - time.monotonic()
                    if left is not None and left <= 0:
                        raise self._full(request)
                    self._changed.wait(left)
        except BaseException as error:  # an interrupt as well: nobody has the future
            if self._take_back(request):
                request.answer(error)
            raise

    def _admit(self) -> None:
        """Let in what there is room for, and see that there are threads for it."""
        while self._entering and len(self._waiting) < self._limits.waiting:
            heapq.heappush(self._waiting, heapq.heappop(self._entering))
        while self._threads < min(self._most_running(), self._threads - self._idle + len(self._waiting)):
            threading.Thread(target=self._work, name=f"mace {self.name}", daemon=True).start()
            self._threads += 1
            self._idle += 1  # until it has taken something
        self._changed.notify_all()

    def _most_running(self) -> int:
        """How many may run at the same time, the first that waits included."""
        return self._limits.running or (self._waiting[0][-1].devices if self._waiting else 1)

    def _has_next(self) -> bool:
        """Whether the first that waits may run beside what does."""
        return bool(self._waiting) and self._threads - self._idle < self._most_running()

    def _remove(self, is_gone: Callable[[Request], bool]) -> list[Request]:
        gone = [entry[-1] for entry in (*self._waiting, *self._entering) if is_gone(entry[-1])]
        if gone:
            self._waiting = [entry for entry in self._waiting if not is_gone(entry[-1])]
            self._entering = [entry for entry in self._entering if not is_gone(entry[-1])]
            heapq.heapify(self._waiting)
            heapq.heapify(self._entering)
            self._admit()
        return gone

    def _take_back(self, request: Request) -> bool:
        with self._changed:
            return bool(self._remove(lambda other: other is request))

    # --- what ends a request early ----------------------------------------------------------------------------------

    def _at(self, request: Request, until: float, call: Callable[[], None]) -> None:
        if until != float("inf"):
            request.appointments.append(call_at(until, call))

    def _cancelled(self, request: Request) -> None:
        if self._take_back(request):
            request.answer(CancelledError(f"{request.label}: the run was cancelled before it began"))
        else:
            request.stop()

    def _late(self, request: Request) -> None:
        if self._take_back(request):
            request.answer(request.late())
        else:
            request.stop()

    def _refuse(self, request: Request) -> None:
        with self._changed:
            if not any(entry[-1] is request for entry in self._entering):
                return
            self._remove(lambda other: other is request)
        request.answer(self._full(request))

    # --- the threads ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        me = threading.get_ident()
        self._workers.add(me)
        try:
            while self._serve_next():  # which holds nothing of the model while the thread waits
                pass
        finally:
            self._workers.discard(me)

    def _serve_next(self) -> bool:
        batch = self._next()
        if batch is None:
            return False
        start = time.perf_counter()
        try:
            answers = self._answers(batch)
        except BaseException as error:  # of the batch's making; that of a run is an answer
            answers = [error] * len(batch)
        with self._changed:
            self.busy_seconds += time.perf_counter() - start
            self.batch_sizes[len(batch)] = self.batch_sizes.get(len(batch), 0) + 1
            for request in batch:
                self._running.pop(request, None)
            self._idle += 1
            self._changed.notify_all()
        for request, answer in zip(batch, answers, strict=True):
            request.answer(answer)
        return True

    def _next(self) -> list[Request] | None:
        """The requests to run next; None: there is nothing to do any more."""
        with self._changed:
            if not self._changed.wait_for(self._has_next, IDLE_SECONDS):
                self._idle -= 1
                self._threads -= 1
                return None
            self._idle -= 1
            request = heapq.heappop(self._waiting)[-1]
            batch = [request]
            self._running[request] = None
            self._admit()
            if request.key is not None:
                self._gather(batch)
            return batch

    def _gather(self, batch: list[Request]) -> None:
        """Add what can run together with the first, waiting a little for more unless other work waits."""
        first = batch[0]
        assert first.batcher is not None
        limits = first.batcher.limits
        now = time.monotonic()
        until = first.since + limits.max_delay
        if first.until is not None:
            until = min(until, now + (first.until - now) / 2)  # the run takes time as well
        while not first.cancel.is_set:
            room = limits.max_batch - sum(request.rows for request in batch)
            for entry in sorted(self._waiting):
                other = entry[-1]
                if other.key == first.key and other.rows <= room and not other.cancel.is_set:
                    self._waiting.remove(entry)
                    self._running[other] = None
                    batch.append(other)
                    room -= other.rows
            heapq.heapify(self._waiting)
            self._admit()
            left = until - time.monotonic()
            if left <= 0 or room <= 0 or self._waiting:
                return
            self._changed.wait(left)

    def _answers(self, batch: Sequence[Request]) -> list[Answer]:
        """Run them, together where that is possible; what each future is to get."""
        live = [request for request in batch if not request.cancel.is_set and not request.is_late()]
        found: dict[Request, Answer] = {}
        if len(live) > 1:
            found = self._together(live)
        return [found[request] if request in found else request.alone() for request in batch]

    def _together(self, batch: Sequence[Request]) -> dict[Request, Answer]:
        """One run for all; nothing where that fails: each is run by itself then, so that one request's fault is not the
        others'."""
        first = batch[0]
        batcher = first.batcher
        assert batcher is not None
        feeds = [request.feeds for request in batch]
        flag = CancelFlag()  # of the run for all: no single request stops it
        for request in batch:
            request.group, request.together = batch, flag
        try:
            plan = batcher.plan(first.feeds)
            if plan is None:
                return {}
            with at_work():
                outputs = first.run(batcher.joined(feeds), first.outputs, flag)
            parts = batcher.parted(outputs, [request.rows for request in batch], plan)
        except Exception as error:
            _log.info("%s: a batch of %d requests failed, each is run alone: %s", first.label, len(batch), error)
            return {}
        finally:
            for request in batch:
                request.group, request.together = (), None
        found: dict[Request, Answer] = dict(zip(batch, parts, strict=True))
        for request in batch:
            if request.is_late():
                found[request] = request.late()
            elif request.cancel.is_set:
                found[request] = CancelledError(f"{request.label}: the run was cancelled")
        return found


_all: weakref.WeakSet[DeviceQueue] = weakref.WeakSet()
_queues: dict[str, DeviceQueue] = {}
_lock = fork_safe_lock()


def _after_fork_in_child() -> None:
    for queue in list(_all):
        queue.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def queue_of(device: str) -> DeviceQueue:
    """The queue of a device, by its qualified name; all sessions share it."""
    with _lock:
        found = _queues.get(device)
        if found is None:
            found = _queues[device] = DeviceQueue(device)
        return found


def queues() -> list[DeviceQueue]:
    """All queues there are."""
    with _lock:
        return list(_queues.values())


def set_queue_limits(device: str, limits: QueueLimits) -> None:
    """How much the queue of a device (its qualified name) holds, and how many requests run at once, from now on."""
    queue_of(device).limits = limits
