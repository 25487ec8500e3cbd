"""What applications do to a queue: callbacks that ask again or close, event loops, forks, odd feeds, many threads."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest

from mace_core import Session
from mace_core.errors import CancelledError, DeadlineError, MaceError, QueueFullError, UsageError
from mace_core.provider.execution import CancelFlag
from mace_core.requests import watch
from mace_core.requests.batching import Batcher, Batching
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import DeviceQueue, QueueLimits
from mace_core.requests.request import Request
from mace_core.requests.rows import RowPlan
from tests.requests.test_queue import Gate, request, row_model

HANG = 60


def test_a_callback_may_ask_again_though_the_queue_is_full() -> None:
    gate, queue = Gate(), DeviceQueue("d:0", QueueLimits(waiting=1))
    again: list[RunFuture] = []
    first = queue.submit(request(gate, 1), 0)
    first.add_done_callback(lambda _: again.append(queue.submit(request(gate, 3), None)))
    gate.began.wait()
    second = queue.submit(request(gate, 2), 0)
    gate.open.set()
    assert second.result(HANG) == {"y": 2}
    assert again[0].result(HANG) == {"y": 3}


@pytest.mark.parametrize("ending", ["late", "cancelled", "closed", "refused"])
def test_a_callback_may_ask_again_however_its_request_ended(ending: str) -> None:
    """Nothing is answered under the lock: whoever asks again in a callback would wait for it forever."""
    gate, others, queue = Gate(), Gate(), DeviceQueue("d:0", QueueLimits(waiting=2))
    again: list[RunFuture] = []

    def ask(_: object) -> None:
        again.append(queue.submit(request(others, 3), None))

    async def overfill() -> None:
        queue.submit(request(others, 2), 0)
        queue.submit(request(others, 2), 0).add_done_callback(lambda _: None)
        refused = queue.submit(request(gate, 2), 0.02)
        refused.add_done_callback(ask)
        with pytest.raises(QueueFullError):
            await refused

    def end() -> None:
        queue.submit(request(others, 1), 0)
        others.began.wait()
        if ending == "refused":
            asyncio.run(overfill())
        else:
            until = time.monotonic() + 0.05 if ending == "late" else None
            asked = queue.submit(request(gate, 2, until=until), 0)
            asked.add_done_callback(ask)
            if ending == "cancelled":
                asked.cancel()
            elif ending == "closed":
                queue.drop(gate, UsageError("closed"))
            assert isinstance(asked.exception(HANG), MaceError)
        while not again:
            time.sleep(0.001)
        others.open.set()
        assert again[0].result(HANG) == {"y": 3}

    within(end)


def within(call: Callable[[], None]) -> None:
    """Call it on a thread of its own, that a queue which is locked for good fails a test instead of stopping all."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(HANG)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def test_a_callback_may_close_its_session_and_fail() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    first, second = queue.submit(request(gate, 1), 0), queue.submit(request(gate, 2), 0)

    def close(_: object) -> None:
        queue.drop(gate, UsageError("closed"))
        raise SystemExit

    first.add_done_callback(close)
    gate.open.set()
    assert isinstance(second.exception(HANG), MaceError)
    assert queue.submit(request(gate, 3), 0).result(HANG) == {"y": 3}


def test_waiting_for_room_does_not_hold_up_an_event_loop() -> None:
    gate, queue = Gate(), DeviceQueue("d:0", QueueLimits(waiting=1))

    async def ask() -> list[Any]:
        futures = [queue.submit(request(gate, n), None) for n in range(5)]
        assert queue.waiting <= 1
        with pytest.raises(QueueFullError):
            queue.submit(request(gate), 0)
        with pytest.raises(QueueFullError):
            await queue.submit(request(gate), 0.01)
        gate.open.set()
        return [(await future)["y"] for future in futures]

    assert asyncio.run(ask()) == list(range(5))


def test_a_task_that_gives_up_cancels_its_run() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")

    async def give_up() -> list[RunFuture]:
        futures = [queue.submit(request(gate, n), 0) for n in range(3)]

        async def result(future: RunFuture) -> None:
            await future

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(futures[0], 0.05)
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(result(futures[1]))
                group.create_task(result(futures[2]))
                await asyncio.sleep(0)  # a task that has not begun has nothing to give up
                raise ValueError
        return futures

    for future in asyncio.run(give_up()):
        assert isinstance(future.exception(HANG), CancelledError)
        assert future.cancelled()
    assert gate.seen == []


def test_a_run_that_something_else_stopped_does_not_look_like_a_cancelled_task() -> None:
    gate, queue, flag = Gate(), DeviceQueue("d:0"), CancelFlag()

    async def ask() -> None:
        asked = Request(gate, "m", gate.run, {}, None, 0, None, flag)
        future = queue.submit(asked, 0)
        flag.set()
        with pytest.raises(CancelledError):
            await future

    asyncio.run(ask())


def test_a_future_keeps_nothing_of_what_was_fed_or_went_wrong() -> None:
    class Array(np.ndarray):
        pass

    def fail(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        copy = feeds["x"].copy().view(Array)
        seen.append(weakref.ref(copy))
        raise CancelledError("stopped")

    seen: list[Any] = []
    fed = np.zeros(10).view(Array)
    seen.append(weakref.ref(fed))
    future = DeviceQueue("d:0").submit(Request(None, "m", fail, {"x": fed}, None, 0, None, CancelFlag()), 0)
    assert isinstance(future.exception(HANG), CancelledError)
    del fed
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


def test_closing_returns_when_nothing_of_the_session_runs_any_more() -> None:
    began, queue = threading.Event(), DeviceQueue("d:0")
    ended: list[bool] = []

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        began.set()
        while not cancel.is_set:
            time.sleep(0.001)
        time.sleep(0.2)  # what a device is at cannot be stopped at once, and must not lose its memory
        ended.append(True)
        return {}

    queue.submit(Request(queue, "m", run, {}, None, 0, None, CancelFlag()), 0)
    began.wait()
    queue.drop(queue, UsageError("closed"))
    assert ended == [True]


def test_a_deadline_that_was_met_is_forgotten() -> None:
    """What is to be called at a deadline holds the request."""
    gate, queue = Gate(), DeviceQueue("d:0")
    asked = request(gate, until=time.monotonic() + 600)
    gate.open.set()
    queue.submit(asked, 0).result(HANG)
    held = [call for _, _, call in watch._watch._entries if asked in (cell.cell_contents for cell in _cells(call))]
    assert held == []


def _cells(call: Any) -> Sequence[Any]:
    return call.__closure__ or ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of POSIX")
def test_a_child_of_a_fork_has_queues_of_its_own() -> None:
    gate, queue = Gate(), DeviceQueue("d:0", QueueLimits(waiting=1))
    future = queue.submit(request(gate, 1), 0)
    gate.began.wait()
    waiting = queue.submit(request(gate, 2, until=time.monotonic() + 600), 0)  # a thread is there for deadlines
    child = os.fork()
    if not child:
        try:
            mine = Gate()
            busy = queue.submit(request(mine, 5), 0)
            mine.began.wait()
            late = queue.submit(request(mine, 4, until=time.monotonic() + 0.01), 0).exception(HANG)
            mine.open.set()
            busy.result(HANG)
            done = queue.submit(request(mine, 3), 0).result(HANG) == {"y": 3} and isinstance(late, DeadlineError)
            os._exit(0 if done else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.open.set()
    assert [future.result(HANG), waiting.result(HANG)] == [{"y": 1}, {"y": 2}]


def batcher() -> Batcher:
    return Batcher(Batching(4, 0.05), ["x"], [], lambda shapes: RowPlan(("x",), (), {"y": 1}))


@pytest.mark.parametrize("feeds", [None, [1], {}, {"x": [1]}, {"x": np.array(1)}, {"x": np.zeros((0, 2))}, {"z": 1}])
def test_strange_feeds_fail_by_themselves_and_nothing_else(feeds: Any) -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    gate.open.set()
    asked = [Request(gate, "m", gate.run, feeds, None, 0, None, CancelFlag(), batcher()) for _ in range(2)]
    for future in [queue.submit(each, 0) for each in asked]:
        future.exception(HANG)
    assert queue.submit(request(gate, 3), 0).result(HANG) == {"y": 3}


def test_a_batch_stops_once_all_of_it_are_cancelled_and_not_before() -> None:
    gate, queue, both = Gate(), DeviceQueue("d:0"), batcher()
    asked = [
        Request(gate, "m", gate.run, {"x": np.full((2, 1), n)}, None, 0, None, CancelFlag(), both) for n in range(2)
    ]
    futures = [queue.submit(each, 0) for each in asked]
    gate.began.wait()
    assert queue.running == 2
    futures[0].cancel()
    assert not wait(futures, timeout=0.1).done
    futures[1].cancel()
    assert all(isinstance(future.exception(HANG), CancelledError) for future in futures)


def ask_together(gate: Gate, queue: DeviceQueue, rows: int = 2, **more: Any) -> list[RunFuture]:
    """Requests that run as one batch, once the device has done what it is at."""
    both = batcher()
    busy = Gate()
    first = queue.submit(request(busy), 0)
    busy.began.wait()
    asked = [
        Request(gate, "m", gate.run, {"x": np.full((1, 1), n)}, None, 0, more.get("until") if n == 0 else None,
                CancelFlag(), both)
        for n in range(rows)
    ]  # fmt: skip
    futures = [queue.submit(each, 0) for each in asked]
    busy.open.set()
    first.result(HANG)
    gate.began.wait()
    return futures


def test_one_of_a_batch_is_cancelled_and_the_others_get_their_results() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    cancelled, other = ask_together(gate, queue)
    cancelled.cancel()
    assert not wait([cancelled, other], timeout=0.1).done, "the run goes on for the other"
    gate.open.set()
    assert isinstance(cancelled.exception(HANG), CancelledError)
    assert other.result(HANG)["y"].tolist() == [[1]]
    assert [len(fed) for fed in gate.seen] == [2], "it was not begun anew"


def test_one_of_a_batch_is_late_and_the_others_get_their_results() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    late, other = ask_together(gate, queue, until=time.monotonic() + 0.3)
    wait([late], timeout=0.5)  # until its deadline has passed
    gate.open.set()
    assert isinstance(late.exception(HANG), DeadlineError)
    assert other.result(HANG)["y"].tolist() == [[1]]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_batch_that_fails_stops_neither_the_device_nor_what_is_right_of_it(error: type[BaseException]) -> None:
    gate, queue, both = Gate(), DeviceQueue("d:0"), batcher()
    gate.open.set()

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        if len(feeds["x"]) > 1:
            raise error
        return {"y": feeds["x"]}

    asked = [Request(gate, "m", run, {"x": np.full((1, 1), n)}, None, 0, None, CancelFlag(), both) for n in range(2)]
    futures = [queue.submit(each, 0) for each in asked]
    if error is ValueError:
        assert [future.result(HANG)["y"].tolist() for future in futures] == [[[0]], [[1]]]
    assert all(isinstance(future.exception(HANG), error | type(None)) for future in futures)
    assert queue.submit(request(gate, 3), 0).result(HANG) == {"y": 3}


def test_a_batch_waits_for_more_neither_while_others_wait_nor_until_it_is_late() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    gate.open.set()
    patient = Batcher(Batching(4, 600.0), ["x"], [], lambda shapes: RowPlan(("x",), (), {"y": 1}))

    def ask(until: float | None) -> RunFuture:
        asked = Request(gate, "m", gate.run, {"x": np.ones((1, 1))}, None, 0, until, CancelFlag(), patient)
        return queue.submit(asked, 0)

    assert ask(time.monotonic() + 4.0).result(HANG)["y"].tolist() == [[1]]
    alone, other = ask(None), queue.submit(request(gate, 3), 0)
    assert other.result(HANG) == {"y": 3}
    assert alone.result(HANG)["y"].tolist() == [[1]]


def test_as_many_run_at_once_as_may_though_a_thread_has_not_woken_yet() -> None:
    queue = DeviceQueue("d:0", QueueLimits(running=2))
    for _ in range(20):
        both = threading.Barrier(2)

        def run(
            feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag, both: threading.Barrier = both
        ) -> dict[str, Any]:
            both.wait(HANG)
            return {}

        futures = [queue.submit(Request(queue, "m", run, {}, None, 0, None, CancelFlag()), 0) for _ in range(2)]
        assert [future.result(HANG) for future in futures] == [{}, {}]


def test_collecting_a_session_as_garbage_needs_no_lock_of_its_queue() -> None:
    """It may happen on any thread at any time, on one that holds the lock, too."""
    found = Session(row_model("MatMul"))
    found.run_async({"x": np.ones((1, 4), np.float32)}).result(HANG)
    sessions = [found]
    del found
    queue = sessions[0]._queue
    assert queue is not None
    gone = weakref.ref(sessions[0])

    def collect() -> None:
        with queue._changed:
            sessions.clear()
            gc.collect()

    within(collect)
    assert gone() is None


def test_many_threads_lose_no_request_and_never_overfill_the_queue() -> None:
    queue, most = DeviceQueue("d:0", QueueLimits(waiting=4, running=2)), 0
    both = batcher()
    runs: list[int] = []

    def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        nonlocal most
        most = max(most, queue.waiting)
        runs.append(len(feeds["x"]))
        if len(runs) % 7 == 0:
            raise ValueError("now and then")
        return {"y": feeds["x"]}

    answers: list[tuple[float, Any]] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for n in range(30):
            value = seed * 1000.0 + n
            asked = Request(
                queue, "m", run, {"x": np.full((1, 1), value)}, None, int(random.integers(3)), None, CancelFlag(),
                both if random.random() < 0.6 else None,
            )  # fmt: skip
            future = queue.submit(asked, None)
            if random.random() < 0.3:
                future.cancel()
            try:
                answers.append((value, float(future.result(HANG)["y"][0, 0])))
            except (CancelledError, ValueError):
                answers.append((value, value))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert len(answers) == 240
    assert [asked for asked, got in answers if asked != got] == []
    assert most <= 4
    assert (queue.waiting, queue.running) == (0, 0)
