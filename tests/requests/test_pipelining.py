"""Requests follow each other over the devices of a model: one is on each device."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "scheduler"))

from scheduler_models import chain
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core import Session
from mace_core.requests.queue import QueueLimits, queue_of, set_queue_limits
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


class Watch:
    """Who is at work, as executions begin and end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = threading.Lock()
        self.at_work: list[str] = []
        self.seen: list[tuple[str, ...]] = []
        monkeypatch.setattr(StandInBackend, "before_run", lambda backend: self.work(backend.device.provider))

    def work(self, name: str) -> None:
        with self.lock:
            self.at_work.append(name)
            self.seen.append(tuple(sorted(self.at_work)))
        time.sleep(0.01)
        with self.lock:
            self.at_work.remove(name)


@pytest.mark.parametrize("memory", [MemoryKind.HOST, MemoryKind.DEVICE])
@pytest.mark.parametrize("has_queue", [False, True])
def test_a_request_is_on_one_device_while_another_is_on_the_next(
    memory: MemoryKind, has_queue: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = make_provider("left", memory=memory, has_queue=has_queue, claims={"Neg"})
    right = make_provider("right", memory=memory, has_queue=has_queue, claims={"Abs"})
    with Session(chain("Neg", "Abs"), devices=["left", "right"], registry=registry_of(left, right)) as session:
        session.run({"x": X})
        watch = Watch(monkeypatch)
        futures = [session.run_async({"x": X * scale}) for scale in range(12)]
        for scale, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(60)["y"], np.abs(X * scale))
    assert ("left", "right") in watch.seen
    assert set(watch.seen) <= {("left",), ("right",), ("left", "right")}  # never two on one


@pytest.mark.parametrize(("running", "far"), [(None, set()), (1, {"Abs"})])
def test_one_request_at_a_time_runs_on_one_device_or_where_that_is_asked_for(
    running: int | None, far: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    near = make_provider("near", claims={"Neg", "Abs"} - far)
    other = make_provider("other", claims=far)
    set_queue_limits("near:0", QueueLimits(running=running))
    try:
        registry = registry_of(near, other)
        with Session(chain("Neg", "Abs"), devices=["near", "other"], registry=registry) as session:
            session.run({"x": X})
            watch = Watch(monkeypatch)
            for future in [session.run_async({"x": X}) for _ in range(6)]:
                future.result(60)
        assert max(map(len, watch.seen)) == 1
    finally:
        set_queue_limits("near:0", QueueLimits())
    assert queue_of("near:0").running == 0
