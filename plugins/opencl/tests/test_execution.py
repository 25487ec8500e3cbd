"""Queues, threads, life cycles, profiles and stored programs on a device."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from mace_opencl import launch

from mace_core.graph import Graph
from mace_core.provider import Bindings, BoundTensor, Buffer, Device
from mace_core.scheduler.profile import Profile
from mace_core.session import Session
from mace_core.tensor import DType, MemoryKind
from mace_core.testing.cases import Case
from mace_core.testing.runner import view_of

Network = tuple[Graph, dict[str, npt.NDArray[np.float32]]]


def opened(device: Device) -> Any:
    from mace_opencl.provider import OpenClProvider

    return OpenClProvider().open(device, {})


def test_threads_with_an_execution_each_agree_with_one(device: Device, network: Network) -> None:
    graph, feeds = network
    inputs = [feeds["x"] + np.float32(step) for step in range(2)]
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        alone = [session.run({"x": x})["y"] for x in inputs]
        start = threading.Barrier(2)

        def work(index: int) -> list[npt.NDArray[np.float32]]:
            start.wait()
            return [session.run({"x": inputs[index]})["y"] for _ in range(20)]

        with ThreadPoolExecutor(2) as threads:
            for index, results in enumerate(threads.map(work, range(2))):
                for result in results:
                    np.testing.assert_array_equal(result, alone[index])


@pytest.mark.parametrize("cycles", [25, pytest.param(500, marks=pytest.mark.full)])
def test_cycles_of_create_run_close_leak_neither_memory_nor_handles(
    device: Device, network: Network, cycles: int
) -> None:
    graph, feeds = network
    process = psutil.Process()

    def cycle() -> None:
        with Session(graph, devices=[device.qualified_name], strict=True, optimize=False) as session:
            session.run(feeds)

    for _ in range(5):
        cycle()
    gc.collect()
    files, threads, memory = process.num_fds(), process.num_threads(), process.memory_info().rss
    for _ in range(cycles):
        cycle()
    gc.collect()
    assert process.num_fds() <= files
    assert process.num_threads() <= threads
    assert process.memory_info().rss - memory < 20e6 + 20e3 * cycles


def test_everything_allocated_for_a_program_is_freed(device: Device) -> None:
    from mace_core.testing.runner import run_once, view_of

    backend = opened(device)
    case = Case("product", "MatMul", [np.ones((3, 4), np.float32), np.ones((4, 5), np.float32)], frozenset({1}))
    view = view_of(case.graph(), case.feeds())
    (compiled,) = backend.compile([view])
    assert backend.memory.used_bytes > 0, "the weights are on the device"
    run_once(backend, view, compiled, case.feeds())
    compiled.close()
    assert backend.memory.used_bytes == 0
    backend.close()


def test_a_profiled_run_tells_when_each_kernel_ran(device: Device, network: Network) -> None:
    graph, feeds = network
    names = {source for node in graph.nodes for source in node.source}
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        expected = session.run(feeds)["y"]
        profile = Profile()
        np.testing.assert_array_equal(session.run(feeds, profile=profile)["y"], expected)
        np.testing.assert_array_equal(session.run(feeds)["y"], expected)
    spans = [span for span in profile.spans if span.device == device.qualified_name]
    assert len(spans) >= 3
    assert all(span.start_ns <= span.end_ns for span in spans)
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(spans)), "in order"
    assert {node for span in spans for node in span.source} <= names
    assert profile.start_ns <= spans[0].start_ns
    assert spans[-1].end_ns <= profile.end_ns


def test_a_second_start_with_a_warm_cache_compiles_nothing(
    device: Device, network: Network, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_opencl.backend import OpenClBackend

    graph, feeds = network
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        expected = session.run(feeds)["y"]

    def no_compiler(self: OpenClBackend, source: str) -> None:
        raise AssertionError("the second start compiles")

    monkeypatch.setattr(OpenClBackend, "_build", no_compiler)
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], expected)


def test_launches_are_queued_natively(device: Device) -> None:
    pytest.importorskip("llvmlite", reason="llvmlite is not installed, so that kernels are queued from Python")
    assert launch.walker()[1] == "native"


def test_queueing_from_python_does_the_same(device: Device, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = network
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        expected = session.run(feeds)["y"]
    monkeypatch.setattr(launch, "walker", lambda: (launch.walk_in_python, "python"))
    with Session(graph, devices=[device.qualified_name], strict=True) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], expected)


def test_a_graph_of_views_only_is_copied_without_computing(device: Device) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    case = Case("reshape", "Reshape", [x, np.array([2, 6], np.int64)], frozenset({1}))
    with Session(case.graph(), devices=[device.qualified_name], strict=True) as session:
        np.testing.assert_array_equal(session.run(case.feeds())["y0"], x.reshape(2, 6))


def test_a_node_the_device_declines_runs_elsewhere_between_two_of_its_own(device: Device) -> None:
    from mace_core.graph import Node, Value
    from mace_core.tensor import DType, TensorType

    graph = Graph("sandwich")
    graph.opset_imports = {"": 21}
    x, a, b, y = Value("x", TensorType(DType.FLOAT32, (4, 5))), Value("a"), Value("b"), Value("y")
    graph.inputs, graph.outputs = [x], [y]
    graph.nodes = [
        Node("Exp", [x], [a], name="before"),
        Node("CumSum", [a, axis_of(graph)], [b], name="middle"),
        Node("Sqrt", [b], [y], name="after"),
    ]
    feed = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    with Session(graph, devices=[device.qualified_name]) as session:
        np.testing.assert_allclose(session.run({"x": feed})["y"], np.sqrt(np.cumsum(np.exp(feed), 0)), rtol=1e-5)
        explained = str(session.explain())
    assert "no kernel for CumSum" in explained


def axis_of(graph: Graph) -> Any:
    from mace_core.graph import Value
    from mace_core.tensor import Tensor

    axis = Value("axis", None, Tensor.from_numpy(np.array(0, np.int64)))
    graph.initializers["axis"] = axis
    return axis


def test_one_execution_reads_and_writes_wherever_in_a_buffer_it_is_told_to(device: Device) -> None:
    """Bound to other parts of the same buffers in each run, with and without moving the other arguments."""
    backend = opened(device)
    x = np.linspace(-2, 2, 60, dtype=np.float32).reshape(5, 12)
    case = Case("softmax", "Softmax", [x], frozenset())
    view = view_of(case.graph(), case.feeds())
    (compiled,) = backend.compile([view])
    execution = compiled.new_execution()
    room = 1024
    memory = backend.memory.allocate(4 * room)
    try:
        for source_at, target_at in ((0, 1), (2, 1), (2, 3), (0, 1), (3, 0)):
            fed, result = x * np.float32(1 + source_at), np.zeros_like(x)
            backend.memory.write(memory, source_at * room, fed.ctypes.data, fed.nbytes)
            source = BoundTensor(DType.FLOAT32, x.shape, memory, source_at * room)
            target = BoundTensor(DType.FLOAT32, x.shape, memory, target_at * room)
            execution.run(Bindings([source], [target], None))
            host = Buffer(MemoryKind.HOST, result.nbytes, result.ctypes.data, result)
            backend.memory.to_host(memory, host, result.nbytes, source_offset=target_at * room)
            expected = np.exp(fed) / np.exp(fed).sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(result, expected, rtol=1e-5)
    finally:
        execution.close()
        backend.memory.free(memory)
        compiled.close()
        backend.close()
