"""Runs of a stream: behind each other, beside others, with errors where they are waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hexagon_support import Array, open_backend, small_network
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.qnn.handles import QnnDevice
from mace_hexagon.qnn.types import Notify

from mace_core.errors import DeviceLostError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.provider import CompiledSubgraph, Device, Event
from mace_core.testing import runner
from mace_core.testing.models import sample_image
from mace_core.testing.runner import bind, run_once, view_of

SHAPE = (1, 3, 20, 18)
SYSTEM_COMMUNICATION = 1007


@pytest.fixture(scope="module")
def view() -> GraphView:
    return view_of(load_model(small_network()), {"x": sample_image(SHAPE)})


def feeds(seed: int) -> dict[str, Array]:
    return {"x": sample_image(SHAPE, seed)}


def run_enqueued(backend: HexagonBackend, view: GraphView, compiled: CompiledSubgraph, *seeds: int) -> list[Array]:
    """The results of runs that wait in one stream together."""
    stream = backend.create_stream()
    try:
        found = runner.run_enqueued(backend, view, compiled, [feeds(seed) for seed in seeds], stream)
    finally:
        stream.close()
    return [each["y"] for each in found]


class QueueStandIn:
    """A stand-in for ``graphExecuteAsync``, which the emulation refuses: the library computes, in a thread of ours.

    Attributes:
        runs: how many were queued.
        code: what the notification says.
    """

    def __init__(self, backend: HexagonBackend) -> None:
        self.runs = 0
        self.code = 0
        self._execute = backend._qnn.interface._functions["graphExecute"]
        self._threads = ThreadPoolExecutor(1)

    def __call__(self, graph: int, *arguments: object) -> int:
        *tensors, profile, signal, notify, parameter = arguments
        assert signal is None
        self.runs += 1
        self._threads.submit(self._run, (graph, *tensors, profile, None), notify, parameter)
        return 0

    def _run(self, arguments: tuple[object, ...], notify: Callable[[object, int], None], parameter: object) -> None:
        code = self._execute(*arguments)
        notify(parameter, self.code or code)


@pytest.fixture
def queue(backend: HexagonBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueStandIn]:
    """The device has a queue, a stand-in."""
    stand_in = QueueStandIn(backend)
    monkeypatch.setitem(backend._qnn.interface._functions, "graphExecuteAsync", stand_in)
    monkeypatch.setattr(QnnDevice, "has_queue", True)
    yield stand_in


def test_the_emulation_has_no_queue_and_says_so(backend: HexagonBackend, view: GraphView) -> None:
    assert not backend._qnn.has_queue
    code = backend._qnn.interface.code("graphExecuteAsync", None, None, 0, None, 0, None, None, Notify(), None)
    assert code != 0


def test_a_stream_of_the_emulation_computes_in_order(backend: HexagonBackend, view: GraphView) -> None:
    (compiled,) = backend.compile([view])
    expected = [run_once(backend, view, compiled, feeds(seed))["y"] for seed in range(3)]
    np.testing.assert_array_equal(run_enqueued(backend, view, compiled, 0, 1, 2), expected)
    compiled.close()


def test_enqueueing_returns_before_what_it_waits_for(backend: HexagonBackend, view: GraphView) -> None:
    (compiled,) = backend.compile([view])
    bound = bind(backend, view, compiled, feeds(0))
    gate = threading.Event()

    class Gate(Event):
        def wait(self) -> None:
            gate.wait()

        @property
        def is_done(self) -> bool:
            return gate.is_set()

    stream, execution = backend.create_stream(), compiled.new_execution()
    event = execution.enqueue(stream, bound.bindings, [Gate()])
    assert not event.is_done
    gate.set()
    event.wait()
    assert event.is_done
    stream.close()
    execution.close()
    bound.free()
    compiled.close()


def test_a_device_with_a_queue_is_given_the_runs_of_streams(
    backend: HexagonBackend, view: GraphView, queue: QueueStandIn
) -> None:
    (compiled,) = backend.compile([view])
    expected = [run_once(backend, view, compiled, feeds(seed))["y"] for seed in range(2)]
    assert queue.runs == 0  # a run that is waited for needs no queue
    np.testing.assert_array_equal(run_enqueued(backend, view, compiled, 0, 1), expected)
    assert queue.runs == 2
    compiled.close()


def test_a_run_that_fails_in_the_queue_raises_where_it_is_waited_for(
    backend: HexagonBackend, view: GraphView, queue: QueueStandIn
) -> None:
    (compiled,) = backend.compile([view])
    queue.code = SYSTEM_COMMUNICATION
    with pytest.raises(DeviceLostError, match=r"could not run graph 'graph0': QNN_COMMON_ERROR_SYSTEM_COMMUNICATION"):
        run_enqueued(backend, view, compiled, 1)
    compiled.close()


def test_two_streams_at_once(device: Device, view: GraphView) -> None:
    backend = open_backend(device)
    (compiled,) = backend.compile([view])
    expected = [run_once(backend, view, compiled, feeds(seed))["y"] for seed in range(2)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda seed: run_enqueued(backend, view, compiled, seed), range(2)))
    np.testing.assert_array_equal([each for (each,) in found], expected)
    compiled.close()
    backend.close()
