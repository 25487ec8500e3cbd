"""Requests in the queue of a device: order, room, deadlines, cancelling, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core import Session
from mace_core.errors import CancelledError, DeadlineError, QueueFullError, UsageError
from mace_core.graph import Graph, Node, Value
from mace_core.provider.execution import CancelFlag
from mace_core.requests.batching import Batcher, Batching
from mace_core.requests.queue import DeviceQueue, QueueLimits
from mace_core.requests.request import Request
from mace_core.requests.rows import RowPlan
from mace_core.tensor import DType, Tensor, TensorType


class Gate:
    """A run that waits until it may go on, and notes what it was asked for."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began = threading.Event()
        self.seen: list[Any] = []

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
        self.began.set()
        while not self.open.wait(0.01):
            if cancel.is_set:
                raise CancelledError("stopped")
        self.seen.append(feeds.get("x"))
        return {"y": feeds.get("x")}


def request(gate: Gate, x: Any = None, priority: int = 0, until: float | None = None, **more: Any) -> Request:
    return Request(gate, "a model", gate.run, {"x": x}, None, priority, until, CancelFlag(), **more)


@pytest.fixture
def gate() -> Iterator[Gate]:
    found = Gate()
    yield found
    found.open.set()


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_what_waits_runs_by_priority_and_then_in_the_order_it_came(priorities: list[int]) -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    first = queue.submit(request(gate, "first"), 0)
    gate.began.wait()
    futures = [queue.submit(request(gate, (-p, n), p), 0) for n, p in enumerate(priorities)]
    gate.open.set()
    assert [future.result(60)["y"][1] for future in futures] == list(range(len(priorities)))
    assert first.result(60) == {"y": "first"}
    assert gate.seen[1:] == sorted(gate.seen[1:])


def test_a_full_queue_refuses_and_has_room_again(gate: Gate) -> None:
    queue = DeviceQueue("d:0", QueueLimits(waiting=2))
    futures = [queue.submit(request(gate), 0)]
    gate.began.wait()
    futures += [queue.submit(request(gate), 0) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 requests wait for d:0 already"):
        queue.submit(request(gate), 0.01)
    assert futures[-1].cancel()  # makes room
    futures.append(queue.submit(request(gate), 0))
    gate.open.set()
    assert [future.cancelled() for future in futures if future.exception(60) or True] == [False, False, True, False]


def test_a_deadline_ends_what_waits_and_what_runs(gate: Gate) -> None:
    import time

    queue = DeviceQueue("d:0")
    running = queue.submit(request(gate, until=time.monotonic() + 0.05), 0)
    waiting = queue.submit(request(gate, until=time.monotonic() + 0.01), 0)
    for future in (running, waiting):
        with pytest.raises(DeadlineError, match="a model: the deadline passed"):
            future.result(60)
    assert gate.seen == []


@pytest.mark.parametrize("is_running", [True, False])
def test_who_awaits_a_late_run_gets_the_deadline_and_is_not_cancelled(gate: Gate, is_running: bool) -> None:
    import time

    async def ask() -> None:
        queue = DeviceQueue("d:0")
        if not is_running:
            queue.submit(request(gate), 0)
        future = queue.submit(request(gate, until=time.monotonic() + 0.02), 0)
        await future

    with pytest.raises(DeadlineError, match="the deadline passed"):
        asyncio.run(ask())


def test_who_stops_waiting_stops_the_run(gate: Gate) -> None:
    async def ask() -> Any:
        future = DeviceQueue("d:0").submit(request(gate), 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.02)
        return future

    with pytest.raises(CancelledError):
        asyncio.run(ask()).result(60)
    assert gate.seen == []


def test_closing_takes_back_what_waits_and_ends_what_runs(gate: Gate) -> None:
    other = Gate()
    queue = DeviceQueue("d:0")
    running = queue.submit(request(gate), 0)
    gate.began.wait()
    waiting, strange = queue.submit(request(gate), 0), queue.submit(request(other, 7), 0)
    queue.drop(gate, UsageError("closed"))
    assert isinstance(running.exception(60), CancelledError)
    assert isinstance(waiting.exception(60), UsageError)
    other.open.set()
    assert strange.result(60) == {"y": 7}


def test_requests_are_joined_and_parted() -> None:
    gate, queue = Gate(), DeviceQueue("d:0")
    batcher = Batcher(Batching(8, 0.0), ["x"], [], lambda shapes: RowPlan(("x",), (), {"y": 1}))
    blocking = queue.submit(request(gate, np.zeros((1, 2))), 0)
    gate.began.wait()
    rows = [np.full((1 + n % 2, 2), n) for n in range(5)]
    futures = [
        queue.submit(Request(gate, "m", gate.run, {"x": x}, None, 0, None, CancelFlag(), batcher), 0) for x in rows
    ]
    gate.open.set()
    for future, x in zip(futures, rows, strict=True):
        np.testing.assert_array_equal(future.result(60)["y"], x)
    assert [x.shape[0] for x in gate.seen] == [1, 7]
    blocking.result(60)


def row_model(op: str) -> Graph:
    graph = Graph(op)
    graph.opset_imports[""] = 17
    x, y = (Value(name, TensorType(DType.FLOAT32, ("n", 4))) for name in "xy")
    graph.inputs, graph.outputs = [x], [y]
    if op == "MatMul":
        weight = Value("w", constant=Tensor.from_numpy(np.random.default_rng(0).standard_normal((4, 4), np.float32)))
        graph.initializers = {"w": weight}
        graph.nodes = [Node(op, [x, weight], [y], name="node")]
    else:
        from mace_core.graph import Attribute, AttributeKind

        axis = {"axis": Attribute(AttributeKind.INT, 0)}
        graph.nodes = [Node(op, [x], [y], name="node", attributes=axis)]
    return graph


def test_a_session_batches_what_asks_together() -> None:
    with Session(row_model("MatMul")) as session:
        inputs = np.random.default_rng(1).standard_normal((40, 1, 4), np.float32)
        expected = [session.run({"x": x})["y"] for x in inputs]
        session.batching(max_batch=8, max_delay=0.01)

        async def ask() -> list[dict[str, Any]]:
            return await asyncio.gather(*(session.run_async({"x": x}) for x in inputs))

        for got, wanted in zip(asyncio.run(ask()), expected, strict=True):
            np.testing.assert_allclose(got["y"], wanted, rtol=1e-5)


def test_feeds_that_fit_no_batch_are_refused_and_others_are_answered() -> None:
    wrong: list[Any] = [{}, {"z": np.zeros((1, 4), np.float32)}, {"x": 1}, {"x": None}, [1], None, {"x": np.zeros(4)}]
    right = np.ones((1, 4), np.float32)
    with Session(row_model("MatMul")) as session:
        expected = session.run({"x": right})["y"]
        session.batching(max_batch=8, max_delay=0.01)
        futures = [session.run_async(feeds) for feeds in (*wrong, {"x": right}, *wrong)]
        for index, future in enumerate(futures):
            if index == len(wrong):
                np.testing.assert_allclose(future.result(60)["y"], expected, rtol=1e-5)
            else:
                with pytest.raises(UsageError):
                    future.result(60)


def test_a_model_whose_rows_are_not_apart_is_not_batched() -> None:
    with Session(row_model("Softmax")) as session, pytest.raises(UsageError, match="cannot be batched: Softmax 'node'"):
        session.batching()


def test_arguments_of_a_request_are_looked_at() -> None:
    with Session(row_model("MatMul")) as session:
        with pytest.raises(UsageError, match="a priority is a whole number"):
            session.run_async({}, priority=0.5)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="deadline is a number of seconds, not -1"):
            session.run_async({}, deadline=-1)
        with pytest.raises(UsageError):
            session.run_async({}).result(60)  # what is wrong with the feeds comes with the result
