"""The thread pool: its threads come when needed, sleep when idle and go when told."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mace_core.errors import UsageError
from mace_core.native import pool as pools
from mace_core.native.plan import NativePlan, PlanInstance, PlanStep
from mace_core.native.pool import MAX_THREADS, ThreadPool, release_shared, shared_pool
from mace_core.native.pool_ir import MOST_CHUNKS
from mace_core.native.system_ir import has_futex
from mace_core.native.target import host_target

ATTEMPTS = 30
"""What needs several threads to get a turn at once is tried so often: a busy machine may refuse them."""


@pytest.fixture(params=["futex", "semaphore"])
def parking(request: pytest.FixtureRequest) -> str:
    if request.param == "futex" and not has_futex(host_target()):
        pytest.skip("this system has no futex")
    return str(request.param)


@pytest.fixture
def pool(parking: str) -> Iterator[ThreadPool]:
    with ThreadPool(3, parking=parking) as made:
        yield made


@pytest.fixture
def instance(count_kernel: int) -> PlanInstance:
    """64 counters, each counted up by 8 steps."""
    return NativePlan([PlanStep(count_kernel, 0, 64, 8)] * 8, [0, 0], [(0, 0, 0)]).new_instance()


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("mace-worker")]


def check(instance: PlanInstance, pool: ThreadPool, runs: int = 1, threads: int | None = None) -> None:
    counts = np.zeros(64, np.int64)
    for _ in range(runs):
        instance.run([counts.ctypes.data], pool=pool, threads=threads)
    assert (counts == 8 * runs).all(), counts


def test_threads_start_with_the_first_run_that_needs_them(pool: ThreadPool, instance: PlanInstance) -> None:
    before = len(workers())
    assert pool.started_workers == 0
    check(instance, pool, threads=1)
    assert pool.started_workers == 0
    check(instance, pool)
    assert pool.started_workers == 2
    assert len(workers()) == before + 2


def test_closing_ends_all_threads(parking: str, instance: PlanInstance) -> None:
    before = workers()
    pool = ThreadPool(4, parking=parking)
    check(instance, pool)
    time.sleep(0.01)
    pool.close()
    pool.close()
    assert workers() == before
    check(instance, pool)  # with the calling thread alone
    assert workers() == before


def test_closing_wakes_parked_threads(parking: str, instance: PlanInstance) -> None:
    pool = ThreadPool(3, parking=parking)
    check(instance, pool)
    time.sleep(0.2)
    pool.close()  # would hang
    assert pool.started_workers == 0


def test_threads_end_with_a_pool_that_nobody_holds(parking: str, instance: PlanInstance) -> None:
    before = workers()
    pool = ThreadPool(3, parking=parking)
    check(instance, pool)
    del pool
    gc.collect()
    assert workers() == before


def test_an_idle_pool_uses_no_processor_time(pool: ThreadPool, instance: PlanInstance) -> None:
    check(instance, pool)
    used = []
    for _ in range(ATTEMPTS):  # on a busy machine a thread may take long to come to its rest
        time.sleep(0.1)
        times = {thread.id: thread.user_time + thread.system_time for thread in psutil.Process().threads()}
        time.sleep(0.3)
        native = {worker.native_id for worker in workers()}
        spent = [
            thread.user_time + thread.system_time - times[thread.id]
            for thread in psutil.Process().threads()
            if thread.id in native and thread.id in times
        ]
        assert len(spent) >= 2
        used.append(max(spent))
        if used[-1] <= 0.01:
            return
    pytest.fail(f"a thread without work used {used} seconds")


def test_parked_threads_help_again(pool: ThreadPool, sleep_kernel: int) -> None:
    marks = np.zeros(3, np.int64)
    instance = NativePlan([PlanStep(sleep_kernel, 0, 3, 3)] * 2, [20_000, 0], [(1, 0, 0)]).new_instance()
    instance.run([marks.ctypes.data], pool=pool)

    def helped() -> bool:
        time.sleep(0.1)
        return helpers(instance, marks, pool) == 2

    assert any(helped() for _ in range(ATTEMPTS))


def test_the_caller_begins_with_the_first_chunk_and_a_worker_with_the_last(parking: str, sleep_kernel: int) -> None:
    """So a thread gets about the same part of one step after the other."""
    marks = np.zeros(6, np.int64)
    instance = NativePlan([PlanStep(sleep_kernel, 0, 6, 6)], [2_000, 0], [(1, 0, 0)]).new_instance()
    here = threading.get_ident()
    helped = []
    with ThreadPool(2, parking=parking) as pool:
        for _ in range(ATTEMPTS):
            helped.append(helpers(instance, marks, pool) > 0)
            threads = [each.thread for each in instance.chunk_times()]
            own = threads.count(here)
            assert threads[:own] == [here] * own, threads
    assert any(helped)


@pytest.mark.parametrize("chunks", [MOST_CHUNKS, MOST_CHUNKS + 1, 1 << 16, (1 << 17) + 3])
def test_more_chunks_than_threads_can_share(pool: ThreadPool, count_kernel: int, chunks: int) -> None:
    counts = np.zeros(chunks, np.int64)
    instance = NativePlan([PlanStep(count_kernel, 0, chunks, chunks)] * 2, [0, 0], [(0, 0, 0)]).new_instance()
    instance.run([counts.ctypes.data], pool=pool)
    assert (counts == 2).all()


def test_more_threads_than_processors(parking: str, instance: PlanInstance) -> None:
    with ThreadPool(4 * (os.cpu_count() or 1), parking=parking) as pool:
        check(instance, pool, runs=100)


def test_wakes_are_never_lost(pool: ThreadPool, count_kernel: int) -> None:
    """Pauses around the time that workers spin before they park."""
    counts = np.zeros(64, np.int64)
    instance = NativePlan([PlanStep(count_kernel, 0, 64, 8)], [0, 0], [(0, 0, 0)]).new_instance()
    for i in range(300):
        instance.run([counts.ctypes.data], pool=pool)
        until = time.monotonic_ns() + 40_000 + 137 * i
        while time.monotonic_ns() < until:
            pass
    assert (counts == 300).all()


def test_sizes(parking: str) -> None:
    with pytest.raises(UsageError, match="at least 1 thread"):
        ThreadPool(0, parking=parking)
    with ThreadPool(1000, parking=parking) as pool:
        assert pool.threads == MAX_THREADS
    with ThreadPool(2, parking=parking) as pool:
        pool.grow(5)
        pool.grow(3)
        assert pool.threads == 5
        assert pool.participants(2) == 2
        assert pool.participants(99) == 5


def test_the_widest_pool_works(parking: str, instance: PlanInstance) -> None:
    with ThreadPool(MAX_THREADS, parking=parking) as pool:
        check(instance, pool, runs=3)
        assert pool.started_workers == MAX_THREADS - 1


def test_an_unknown_way_of_parking_is_refused() -> None:
    with pytest.raises(UsageError, match="park by 'hammock'"):
        ThreadPool(2, parking="hammock")


def test_a_system_that_gives_no_more_threads_is_coped_with(
    instance: PlanInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPool(4) as pool:
        start, started = threading.Thread.start, 0

        def scarce(thread: threading.Thread) -> None:
            nonlocal started
            started += 1
            if started > 1:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        check(instance, pool)
        assert pool.threads == 2
    assert "No more than 2 threads" in caplog.text


def test_the_shared_pool_grows_and_ends_with_its_last_holder(
    instance: PlanInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "_shared", {})  # other tests of this process may hold one
    earlier = len(workers())
    first = shared_pool(2)
    assert shared_pool(3) is first
    assert first.threads >= 3
    assert shared_pool(1).threads == first.threads
    check(instance, first)
    release_shared(first)
    release_shared(first)
    assert len(workers()) > earlier
    release_shared(first)
    assert len(workers()) == earlier
    second = shared_pool(2)
    assert second is not first
    release_shared(second)


def test_a_pool_that_ends_while_a_session_takes_it_is_not_handed_out(
    instance: PlanInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking the pool up and holding it, collected garbage gives it back for the last time."""

    class Shared(dict[object, ThreadPool]):
        garbage: ThreadPool | None = None

        def get(self, key: object, default: object = None) -> Any:
            found = super().get(key)
            if found is not None and found is self.garbage:
                self.garbage = None
                release_shared(found)
            return found

    shared = Shared()
    monkeypatch.setattr(pools, "_shared", shared)
    earlier = len(workers())
    first = shared_pool(2)
    check(instance, first)
    shared.garbage = first
    second = shared_pool(2)
    assert second is not first
    check(instance, second)
    assert second.started_workers == 1
    assert shared_pool(2) is second, "the new one is what others share"
    release_shared(second)
    release_shared(second)
    assert len(workers()) == earlier


def test_a_pool_that_closes_while_a_run_begins_starts_no_threads(
    parking: str, instance: PlanInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has seen an open pool; when it comes to start the workers, the pool is closed."""
    before = workers()
    start = ThreadPool._start

    def late(pool: ThreadPool, count: int) -> int:
        pool.close()
        return start(pool, count)

    monkeypatch.setattr(ThreadPool, "_start", late)
    pool = ThreadPool(3, parking=parking)
    check(instance, pool)
    assert workers() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "during a run"])
def test_a_fork_gets_threads_of_its_own(
    pool: ThreadPool, instance: PlanInstance, sleep_kernel: int, busy: bool
) -> None:
    check(instance, pool)
    marks = np.zeros(3, np.int64)
    sleeping = NativePlan([PlanStep(sleep_kernel, 0, 3, 3)], [50_000, 0], [(1, 0, 0)])
    thread = threading.Thread(target=sleeping.new_instance().run, args=([marks.ctypes.data],), kwargs={"pool": pool})
    if busy:
        thread.start()
        time.sleep(0.02)
    child = os.fork()
    if child == 0:  # whatever happens, the child must not go on with the tests
        try:
            mine = sleeping.new_instance()
            helped = any(helpers(mine, marks, pool) == 2 for _ in range(ATTEMPTS))
            check(instance, pool, runs=20)
            pool.close()
            os._exit(0 if helped and not workers() else 3)
        except BaseException:
            os._exit(4)
    if busy:
        thread.join()
    assert exit_code(child, 240) == 0
    check(instance, pool, runs=20)


def helpers(instance: PlanInstance, marks: np.ndarray, pool: ThreadPool) -> int:
    """How many threads besides the calling one took part in a run."""
    instance.run([marks.ctypes.data], pool=pool, profile=True)
    return len({each.thread for each in instance.chunk_times()} - {threading.get_ident()})


def exit_code(child: int, limit_s: float) -> int:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


EXIT = """
import sys, threading
sys.path.insert(0, {folder!r})
import numpy as np
from conftest import COUNT
from mace_core.native.kernel import load_kernels
from mace_core.native.plan import NativePlan, PlanStep
from mace_core.native.pool import ThreadPool, shared_pool
kernel = load_kernels([COUNT])["test_count"]
plan = NativePlan([PlanStep(kernel, 0, 64, 8)] * 8, [0, 0], [(0, 0, 0)])
counts = np.zeros(64, np.int64)
pools = [shared_pool(3), ThreadPool(3, parking="semaphore")]
def run(pool):
    instance = plan.new_instance()
    while True:
        instance.run([counts.ctypes.data], pool=pool)
for pool in pools:
    plan.new_instance().run([counts.ctypes.data], pool=pool)
    if {busy}:
        threading.Thread(target=run, args=(pool,), daemon=True).start()
print("end")
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "while daemon threads run plans"])
def test_the_process_ends_cleanly(busy: bool) -> None:
    script = EXIT.format(folder=str(Path(__file__).parent), busy=busy)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
