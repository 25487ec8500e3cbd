"""A pool of threads that compute chunks of plan steps.

A worker is a daemon Python thread that stays inside one native call, without the GIL.  It spins a little when there is
nothing to do and then sleeps on a futex; where there is none it goes back to Python and sleeps on a semaphore.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_rlock
from mace_core.host.processors import can_pin, pin_this_thread, usable_processors
from mace_core.host.threads import default_threads
from mace_core.native.kernel import load_kernels
from mace_core.native.pool_ir import STOP, WORKER, PoolWord
from mace_core.native.system_ir import has_futex
from mace_core.native.target import host_target

_LOG = logging.getLogger("mace.native")

MAX_THREADS = 64
"""Participants of one region: the caller and 63 workers, one bit each in a word."""

IDLE_SPIN_NS = 60_000
"""Nanoseconds that a worker looks for work before it sleeps, while no run is in progress."""
ACTIVE_SPIN_NS = 400_000
"""The same while a run is in progress."""

_CACHE_LINE_BYTES = 64

_pools: weakref.WeakSet[ThreadPool] = weakref.WeakSet()
_limit = MAX_THREADS
_confined: frozenset[int] | None = None
_shared: dict[frozenset[int] | None, ThreadPool] = {}
_shared_lock = fork_safe_rlock()


class ThreadPool:
    """Workers for `PlanInstance.run`.  One run at a time uses them; another that comes meanwhile computes its chunks
    alone.

    Args:
        threads: participants in a region, the calling thread included; None: `default_threads()`.
        parking: how workers sleep: "futex" or "semaphore"; None: a futex where the system has them.
        processors: workers keep to these, and so does the calling thread during a run; None: the system decides.

    Attributes:
        home: the processors given.
        processors: those that it keeps to now: others while `confine` holds.

    Threads start with the first run that needs them and end with `close()`, with the pool or with the process.
    """

    def __init__(
        self, threads: int | None = None, *, parking: str | None = None, processors: frozenset[int] | None = None
    ) -> None:
        count = default_threads(processors=processors) if threads is None else threads
        if count < 1:
            raise UsageError(f"a thread pool needs at least 1 thread, not {count}")
        target = host_target()
        self.parking = ("futex" if has_futex(target) else "semaphore") if parking is None else parking
        if self.parking not in ("futex", "semaphore") or (self.parking == "futex" and not has_futex(target)):
            raise UsageError(f"workers cannot park by '{self.parking}' on {target.triple}")
        self._wanted = min(count, MAX_THREADS)
        self.home = processors
        self.processors = processors if _confined is None else _confined
        self._team = _Team(self.processors)
        self.address = self._team.address
        self._lock = threading.Lock()
        self._closed = False
        self._holders = 0
        self._stop = weakref.finalize(self, _Team.stop, self._team)
        _pools.add(self)

    @property
    def threads(self) -> int:
        """The most participants a region can have."""
        return self._wanted

    @property
    def started_workers(self) -> int:
        """The number of worker threads that run now; the calling thread is not among them."""
        return len(self._team.workers)

    def grow(self, threads: int) -> None:
        """Make room for so many participants; a pool never shrinks."""
        self._wanted = max(self._wanted, min(threads, MAX_THREADS))

    def hold(self) -> bool:
        """One holder more; False where the last one has gone meanwhile."""
        self._holders += 1
        return self._holders > 0

    def let_go(self) -> bool:
        """One holder fewer; True if that was the last, after which nobody can hold it."""
        self._holders -= 1
        if self._holders == 0:
            self._holders = -(1 << 62)
            return True
        return False

    def participants(self, threads: int | None) -> int:
        """How many participants a run that asks for ``threads`` gets; starts the workers it needs.  1 once closed."""
        if self._closed:
            return 1
        count = self._wanted if threads is None else max(1, min(threads, self._wanted))
        if count > _limit:
            count = _limit
        if count > 1 + len(self._team.workers):
            count = self._start(count - 1)
        if self.parking == "semaphore":
            self._team.wake_sleepers()
        return count

    def keep_to(self, processors: frozenset[int] | None) -> None:
        """Keep to these processors from the next run on; None: to those given at first."""
        with self._lock:
            self.processors = self.home if processors is None else processors
            self._team.move(self.processors)

    def close(self) -> None:
        """End the workers and wait for them.  Idempotent.  Runs then use only their own thread."""
        with self._lock:
            self._closed = True
            self._stop()

    def __enter__(self) -> ThreadPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, workers: int) -> int:
        """Start what is missing of ``workers``; answers how many participants there are then."""
        with self._lock:
            if self._closed:
                return 1
            try:
                while len(self._team.workers) < workers:
                    self._team.add_worker(park_in_python=self.parking == "semaphore")
            except RuntimeError as error:
                self._wanted = 1 + len(self._team.workers)
                # Python 3.12 and later start none while the process ends, which daemon threads may still see
                level = logging.WARNING if threading.main_thread().is_alive() else logging.DEBUG
                _LOG.log(
                    level, "No more than %d threads can be started (%s); going on with these.", self._wanted, error
                )
            return min(self._wanted, 1 + workers)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self.processors = self._team.processors = self.home
        self._team.forget_workers()


class _Team:
    """The workers and the memory they share: what must outlive the pool until the last of them has returned."""

    def __init__(self, processors: frozenset[int] | None) -> None:
        self.processors = processors
        self._memory = np.zeros(PoolWord.SIZE + _CACHE_LINE_BYTES // 8, np.int64)
        first = -self._memory.ctypes.data % _CACHE_LINE_BYTES // 8
        self.words = self._memory[first : first + PoolWord.SIZE]
        self.address = int(self.words.ctypes.data)
        self.workers: list[threading.Thread] = []
        self._sleepers: list[threading.Semaphore] = []
        self._reset()

    def add_worker(self, park_in_python: bool) -> None:
        self.words[PoolWord.PARK_IN_CALLER] = park_in_python
        sleeper = threading.Semaphore(0)
        index = len(self.workers)
        worker = threading.Thread(
            target=self._work, args=(_calls().worker, index, sleeper), name=f"mace-worker-{index}", daemon=True
        )
        worker.start()
        self._sleepers.append(sleeper)
        self.workers.append(worker)

    def move(self, processors: frozenset[int] | None) -> None:
        """Keep the workers that run and those that come to ``processors``; None: where the caller may run."""
        self.processors = processors
        if not can_pin():
            return
        for worker in self.workers:
            if worker.native_id is not None:
                with contextlib.suppress(OSError):  # it has just ended, or they were switched off: then it stays
                    os.sched_setaffinity(worker.native_id, processors or usable_processors())

    def wake_sleepers(self) -> None:
        parked = int(self.words[PoolWord.PARKED])
        for index, sleeper in enumerate(self._sleepers):
            if parked >> index & 1:
                sleeper.release()

    def stop(self) -> None:
        """End all workers and wait for them."""
        workers, self.workers = self.workers, []
        if not workers:
            return
        _calls().stop(self.address)
        for sleeper in self._sleepers:
            sleeper.release()
        for worker in workers:
            if worker is not threading.current_thread():
                worker.join()

    def forget_workers(self) -> None:
        """In the child of a fork there are no workers, and whatever they were doing is void."""
        self.workers = []
        self._sleepers = []
        self._reset()

    def _reset(self) -> None:
        self.words[:] = 0
        self.words[PoolWord.IDLE_SPIN_NS] = IDLE_SPIN_NS
        self.words[PoolWord.ACTIVE_SPIN_NS] = ACTIVE_SPIN_NS

    def _work(self, call: Callable[[int, int, int], int], index: int, sleeper: threading.Semaphore) -> None:
        """A worker's life."""
        if self.processors is not None:
            pin_this_thread(self.processors)
        resting = call(self.address, index, 0)
        while resting:
            sleeper.acquire()
            resting = call(self.address, index, 1)


@dataclass(frozen=True, slots=True)
class _Calls:
    worker: Callable[[int, int, int], int]
    stop: Callable[[int], None]


@functools.cache
def _calls() -> _Calls:
    addresses = load_kernels([WORKER, STOP])
    worker = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(addresses[WORKER.symbol])
    stop = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(addresses[STOP.symbol])
    return _Calls(worker, stop)


def shared_pool(threads: int | None = None, processors: frozenset[int] | None = None) -> ThreadPool:
    """The pool that all sessions of this process share that keep to the same processors; it grows to the largest number
    asked for.  Every holder gives it back with `release_shared`; its threads end with the last."""
    count = default_threads(processors=processors) if threads is None else threads
    with _shared_lock:
        # collecting garbage may close a session, and with it a pool, at any point in here
        while (pool := _shared.get(processors)) is None or not pool.hold():
            _shared[processors] = ThreadPool(count, processors=processors)
        pool.grow(count)
        return pool


def release_shared(pool: ThreadPool) -> None:
    """One holder fewer of a pool that `shared_pool` gave."""
    with _shared_lock:
        if not pool.let_go():
            return
        if _shared.get(pool.home) is pool:
            del _shared[pool.home]
    pool.close()


def set_thread_limit(threads: int | None) -> None:
    """Let at most so many threads take part in a run, in all pools, from the next run on; None: as many as they have.

    Plans stay what they are, and so do results: work is divided as before, and fewer threads take the parts.

    Raises:
        UsageError: for fewer than 1.
    """
    global _limit
    if threads is not None and threads < 1:
        raise UsageError(f"a run needs at least 1 thread, not {threads}")
    _limit = MAX_THREADS if threads is None else min(threads, MAX_THREADS)


def confine(processors: frozenset[int] | None) -> None:
    """Keep the threads of all pools to these processors, whatever they were given; None: to what they were given."""
    global _confined
    _confined = processors
    for pool in list(_pools):
        pool.keep_to(processors)


def _close_all() -> None:
    for pool in list(_pools):
        pool.close()


def _after_fork_in_child() -> None:
    global _limit, _confined
    _limit, _confined = MAX_THREADS, None  # whoever limited it is not there any more
    for pool in list(_pools):
        pool._forked()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
