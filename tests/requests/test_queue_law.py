"""Laws of a queue, whatever is asked of it: every request is answered once and with its own, the bounds hold, and what
is over is freed."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.errors import CancelledError, DeadlineError, QueueFullError
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batching import Batcher, Batching
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import DeviceQueue, QueueLimits
from mace_core.requests.request import Request
from mace_core.requests.rows import RowPlan

HANG = 60


class Fed(np.ndarray):
    """An array that one may have a weak reference to."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        deadline: seconds from the call.
        is_cancelled: right after the call, before it can have ended.
        lets_go: all runs may end from then on.
    """

    priority: int
    deadline: float | None
    rows: int
    is_batched: bool
    is_cancelled: bool
    waits: bool
    lets_go: bool


ASKED = st.builds(
    Asked,
    priority=st.integers(-1, 1),
    deadline=st.sampled_from([None, None, -1.0, 0.002, 600.0]),
    rows=st.integers(1, 2),
    is_batched=st.booleans(),
    is_cancelled=st.booleans(),
    waits=st.booleans(),
    lets_go=st.booleans(),
)


class Model:
    """Runs that wait until they may go on, and watch over the queue."""

    def __init__(self, queue: DeviceQueue) -> None:
        self.queue = queue
        self.may_end = threading.Event()
        self.most_at_once = self.most_waiting = 0
        self._lock = threading.Lock()
        self._at_once = 0

    def watch(self, *_: object) -> None:
        self.most_waiting = max(self.most_waiting, self.queue.waiting)

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.watch()
        try:
            while not self.may_end.wait(0.001):
                if cancel.is_set:
                    raise CancelledError("stopped")
            return {"y": np.array(feeds["x"])}
        finally:
            with self._lock:
                self._at_once -= 1


@settings(max_examples=40, deadline=None)
@given(st.lists(ASKED, min_size=1, max_size=12), st.integers(1, 4), st.integers(1, 2))
def test_all_is_answered_once_bounds_hold_and_what_is_over_is_freed(
    everything: list[Asked], waiting: int, running: int
) -> None:
    queue = DeviceQueue("d:0", QueueLimits(waiting, running))
    model = Model(queue)
    batcher = Batcher(Batching(3, 0.001), ["x"], [], lambda shapes: RowPlan(("x",), (), {"y": 1}))
    futures: dict[int, RunFuture] = {}
    arrays: list[weakref.ref[Fed]] = []
    answers: Counter[int] = Counter()
    for number, asked in enumerate(everything):
        if asked.lets_go:
            model.may_end.set()
        fed = np.full((asked.rows, 1), number).view(Fed)
        arrays.append(weakref.ref(fed))
        until = None if asked.deadline is None else time.monotonic() + asked.deadline
        joins = batcher if asked.is_batched else None
        request = Request(model, "m", model.run, {"x": fed}, None, asked.priority, until, CancelFlag(), joins)
        del fed
        try:
            futures[number] = queue.submit(request, 0.002 if asked.waits else 0)
        except QueueFullError:
            continue
        finally:
            del request
            model.watch()
        futures[number].add_done_callback(model.watch)
        futures[number].add_done_callback(lambda _, number=number: answers.update([number]))  # type: ignore[misc]
        if asked.is_cancelled:
            futures[number].cancel()
    model.may_end.set()
    for number, future in futures.items():
        _look_at(everything[number], number, future)
    assert model.most_waiting <= waiting
    assert model.most_at_once <= running
    _wait_until(lambda: queue.running == 0 and len(answers) == len(futures))
    assert queue.waiting == 0
    assert set(answers.values()) <= {1}
    assert len(futures) >= min(len(everything), waiting), "refused though there was room"
    _wait_until(lambda: all(array() is None for array in arrays))


def _look_at(asked: Asked, number: int, future: RunFuture) -> None:
    """That a request got what is its own, or an error that it has asked for."""
    error = future.exception(HANG)
    if error is None:
        assert future.result()["y"].tolist() == [[number]] * asked.rows
    elif isinstance(error, DeadlineError):
        assert asked.deadline is not None
    else:
        assert isinstance(error, CancelledError), error
        assert asked.is_cancelled


def _wait_until(is_so: Any) -> None:
    """A thread of the queue holds its last batch a moment longer than the future says."""
    end = time.monotonic() + HANG
    while not is_so() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.001)
    assert is_so()
