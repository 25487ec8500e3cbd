"""Runs in the background, one behind the other, in memory that the library knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from apu_support import StandIn, open_backend
from lowering_support import model_of, node
from mace_apu.backend import ApuBackend
from mace_apu.memory import SharedAllocator
from mace_apu.neuron.constants import Result
from mace_apu.stream import ApuStream
from onnx import TensorProto, helper

from mace_core.errors import CancelledError, ProviderError, UnsupportedError
from mace_core.frontend.load import load_model
from mace_core.provider import BoundTensor, CancelFlag, CompiledSubgraph, Device, Execution
from mace_core.provider.worker_queue import WorkerQueue
from mace_core.tensor import DType, MemoryKind
from mace_core.testing.runner import BoundRun, bind, view_of

SHAPE = (4, 8)
X = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


class Chain:
    """Executions of ``y = 2 * x``, each reading what the one before writes."""

    def __init__(self, backend: ApuBackend, length: int) -> None:
        self.backend = backend
        self.stream = backend.create_stream()
        graph = load_model(model_of([node("Add", ["x", "x"])], SHAPE))
        view = view_of(graph, {"x": X})
        (self.compiled,) = backend.compile([view])
        self.bound: list[BoundRun] = []
        self.executions: list[Execution] = []
        before: BoundTensor | None = None
        for _ in range(length):
            bound = bind(backend, view, self.compiled, {"x": X})
            if before is not None:
                bound.bindings = replace(bound.bindings, inputs=[before])
            before = bound.bindings.outputs[0]
            self.bound.append(bound)
            self.executions.append(self.compiled.new_execution())

    def enqueue(self, index: int, wait: tuple[object, ...] = ()) -> object:
        return self.executions[index].enqueue(self.stream, self.bound[index].bindings, wait)  # type: ignore[arg-type]

    def close(self) -> None:
        assert self.stream is not None
        self.stream.close()
        for execution in self.executions:
            execution.close()
        compiled: CompiledSubgraph = self.compiled
        compiled.close()
        for bound in self.bound:
            bound.free()


@pytest.fixture
def opened(device: Device, stand_in: StandIn) -> Iterator[ApuBackend]:
    """A backend in float32; all objects of the library are gone at the end."""
    before = stand_in.live
    backend = open_backend(device, precision="float32")
    yield backend
    backend.close()
    assert stand_in.live == before


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in writes the functions that it is called through."""
    monkeypatch.setenv("NEURON_STAND_IN_LOG", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.fixture
def chain(opened: ApuBackend) -> Iterator[Chain]:
    made = Chain(opened, 4)
    yield made
    made.close()


def test_runs_follow_each_other_without_waiting_on_the_processor(chain: Chain, log: Path) -> None:
    for _ in range(5):
        events = [chain.enqueue(index) for index in range(4)]
        for event in events:
            event.wait()  # type: ignore[attr-defined]
        for index, bound in enumerate(chain.bound):
            np.testing.assert_array_equal(bound.outputs()[0], X * 2 ** (index + 1))
    called = log.read_text().split()
    assert called.count("NeuronExecution_startComputeWithDependencies") == called.count("NeuronEvent_wait") == 20
    assert "NeuronExecution_compute" not in called
    assert called.count("NeuronExecution_setInputFromMemory") == 4, "told once where it lies"
    assert isinstance(chain.stream, ApuStream)


def test_64_bit_integers_are_converted_before_the_next_run_begins(opened: ApuBackend, stand_in: StandIn) -> None:
    """On the processor: what the first run finds is what the second is given, however long the first takes."""
    first = load_model(model_of([node("ArgMax", ["x"], axis=1)], SHAPE, outputs={"y": TensorProto.INT64}))
    graph = helper.make_graph(
        [node("Cast", ["t"], to=TensorProto.FLOAT)],
        "second",
        [helper.make_tensor_value_info("t", TensorProto.INT64, (SHAPE[0], 1))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (SHAPE[0], 1))],
    )
    second = load_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    zeros = np.zeros((SHAPE[0], 1), np.int64)
    views = [view_of(first, {"x": X}), view_of(second, {"t": zeros})]
    compiled = opened.compile(views)
    bound = [bind(opened, views[0], compiled[0], {"x": X}), bind(opened, views[1], compiled[1], {"t": zeros})]
    bound[1].bindings = replace(bound[1].bindings, inputs=[bound[0].bindings.outputs[0]])
    executions = [each.new_execution() for each in compiled]
    stream = opened.create_stream()
    for _ in range(2):  # what the executions are like is known from the first time on
        bound[0].fill_outputs(0)
        with stand_in.delayed(0.05):
            for execution, each in zip(executions, bound, strict=True):
                execution.enqueue(stream, each.bindings, ())
            stream.synchronize()
        np.testing.assert_array_equal(bound[1].outputs()[0], X.argmax(axis=1, keepdims=True))
    stream.close()
    for execution in executions:
        execution.close()
    for subgraph, each in zip(compiled, bound, strict=True):
        subgraph.close()
        each.free()


def test_what_does_not_need_a_failed_run_is_run(chain: Chain, stand_in: StandIn) -> None:
    for index in range(4):
        chain.enqueue(index).wait()  # type: ignore[attr-defined]
    stand_in.fail_once("computation", Result.OP_FAILED)
    first = chain.enqueue(0)
    second = chain.enqueue(1)  # begins behind the first, and reads what a run before wrote
    third = chain.enqueue(2, (first,))
    with pytest.raises(UnsupportedError, match="cannot run: it returns NEURON_OP_FAILED"):
        first.wait()  # type: ignore[attr-defined]
    second.wait()  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedError, match="OP_FAILED"):
        third.wait()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(chain.bound[1].outputs()[0], X * 4)
    assert chain.stream is not None
    with pytest.raises(ProviderError):
        chain.stream.synchronize()
    chain.stream.synchronize()


def test_what_needs_the_run_before_it_fails_with_it(chain: Chain, stand_in: StandIn) -> None:
    for index in range(4):
        chain.enqueue(index).wait()  # type: ignore[attr-defined]
    stand_in.fail_once("computation", Result.OP_FAILED)
    first = chain.enqueue(0)
    second = chain.enqueue(1, (first,))
    for event in (first, second):
        with pytest.raises(UnsupportedError, match="OP_FAILED"):
            event.wait()  # type: ignore[attr-defined]
    chain.enqueue(0).wait()  # type: ignore[attr-defined]


def test_a_cancelled_run_is_not_started(opened: ApuBackend, log: Path) -> None:
    chain = Chain(opened, 1)
    flag = CancelFlag()
    flag.set()
    bound = chain.bound[0]
    bound.bindings = replace(bound.bindings, cancel=flag)
    with pytest.raises(CancelledError):
        chain.enqueue(0).wait()  # type: ignore[attr-defined]
    chain.close()
    assert "NeuronExecution_startComputeWithDependencies" not in log.read_text()


def test_memory_is_kept_as_long_as_an_execution_refers_to_it(opened: ApuBackend, stand_in: StandIn) -> None:
    chain = Chain(opened, 1)
    chain.enqueue(0).wait()  # type: ignore[attr-defined]
    assert isinstance(opened.allocators()[0], SharedAllocator)
    there = stand_in.live
    chain.bound[0].free()
    assert stand_in.live == there, "input and output"
    chain.close()


def test_memory_is_the_processors_too(opened: ApuBackend) -> None:
    allocator = opened.allocators()[0]
    buffer = allocator.allocate(100)
    assert (buffer.memory, buffer.nbytes, buffer.device) == (MemoryKind.PINNED, 100, opened.device.qualified_name)
    buffer.host_bytes()[:] = 7
    assert buffer.host_bytes().sum() == 700
    assert BoundTensor(DType.UINT8, (100,), buffer).address % 64 == 0
    allocator.free(buffer)


@pytest.mark.parametrize("option", ["auto", "off"])
def test_a_library_without_events_has_a_queue_of_ours(
    device: Device, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    backend = open_backend(device, shared_memory=option, precision="float32")
    monkeypatch.setattr(backend, "_has_events", False)
    chain = Chain(backend, 3)
    assert isinstance(chain.stream, WorkerQueue)
    for index in range(3):
        chain.enqueue(index)
    chain.stream.synchronize()
    np.testing.assert_array_equal(chain.bound[2].outputs()[0], X * 8)
    chain.close()
    backend.close()
