"""A device that fails while several threads run a session: nothing is lost, and all results are right."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest

from mace_core import activity
from mace_core.errors import ProviderError
from mace_core.faults import FaultLimits
from mace_core.provider.registry import default_registry
from mace_core.session import Session
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder

THREADS, RUNS = 4, 3
SHAPE = (1, 3, 20, 18)
FEEDS = [{"x": sample_image(SHAPE, seed)} for seed in range(THREADS)]


class Faulty(NamedTuple):
    """A device whose library can be told to fail.

    Attributes:
        name: for a session.
        tolerance: of its arithmetic, of the range.
        failing: within, each run fails in the way that is named: "once" leaves the device usable, "lost" does not.
    """

    name: str
    tolerance: float
    failing: Callable[[str], contextlib.AbstractContextManager[None]]


def network() -> onnx.ModelProto:
    net = NetworkBuilder("small", SHAPE, seed=3)
    x = net.op("Relu", net.conv("x", 3, 16, 3, stride=2))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


def apu(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """The stand-in for MediaTek's library, which fails when it is told to."""
    tests = Path(__file__).parents[2] / "plugins" / "apu" / "tests"
    monkeypatch.setattr(sys, "path", [str(tests), *sys.path])
    support = importlib.import_module("apu_support")
    if support.compiler() is None:
        pytest.skip("no C compiler is here to build the stand-in")
    folder = support.build()
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(folder))
    stand_in = support.StandIn(folder)
    codes = importlib.import_module("mace_apu.neuron.constants").Result

    @contextlib.contextmanager
    def failing(how: str) -> Iterator[None]:
        code = codes.DEAD_OBJECT if how == "lost" else codes.OP_FAILED
        names = ("NeuronExecution_compute", "NeuronExecution_startComputeWithDependencies")
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(stand_in.failing(name, code))
            yield

    return Faulty("apu:stand-in", 5e-3, failing)


def hexagon(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """QNN's codes, injected where its function would return them."""
    handles = importlib.import_module("mace_hexagon.qnn.handles")
    original, code = handles.QnnDevice.call, [0]

    def call(self: Any, doing: str, function: str, *arguments: object) -> None:
        if function.startswith("graphExecute") and code[0]:
            raise self.interface.error(code[0], doing, device=self.name)
        original(self, doing, function, *arguments)

    monkeypatch.setattr(handles.QnnDevice, "call", call)

    @contextlib.contextmanager
    def failing(how: str) -> Iterator[None]:
        code[0] = 1007 if how == "lost" else 1000  # SYSTEM_COMMUNICATION, a general failure
        yield
        code[0] = 0

    return Faulty("hexagon:v75", 1e-2, failing)


def opencl(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """clEnqueueNDRangeKernel, passed on until it is told to fail."""
    api, launch = importlib.import_module("mace_opencl.api"), importlib.import_module("mace_opencl.launch")
    try:
        real = launch._ENQUEUE(api.load().address("clEnqueueNDRangeKernel"))
    except (OSError, ProviderError) as error:
        pytest.skip(str(error))
    code, original = [0], api.OpenCl.address
    callback = launch._ENQUEUE(lambda *arguments: code[0] or real(*arguments))

    def address(functions: Any, name: str) -> int:
        if name == "clEnqueueNDRangeKernel":
            return int(ctypes.cast(callback, ctypes.c_void_p).value or 0)
        return int(original(functions, name))

    monkeypatch.setattr(api.OpenCl, "address", address)

    @contextlib.contextmanager
    def failing(how: str) -> Iterator[None]:
        code[0] = -36 if how == "lost" else -52  # INVALID_COMMAND_QUEUE, INVALID_KERNEL_ARGS
        yield
        code[0] = 0

    return Faulty("opencl:0", 1e-5, failing)


def openvino(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """OpenVINO's requests, which raise what OpenVINO raises."""
    package = pytest.importorskip("openvino", reason="pip install mace-npu[openvino]")
    original, fails = package.InferRequest.start_async, [False]

    def start(self: Any, *arguments: Any, **named: Any) -> Any:
        if fails[0]:
            raise RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:245: the unit is gone")
        return original(self, *arguments, **named)

    monkeypatch.setattr(package.InferRequest, "start_async", start)

    @contextlib.contextmanager
    def failing(how: str) -> Iterator[None]:
        fails[0] = True
        yield
        fails[0] = False

    return Faulty("npu:openvino-cpu", 1e-5, failing)


@pytest.fixture(params=[apu, hexagon, opencl, openvino], ids=lambda make: make.__name__)
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Faulty:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    found: Faulty = request.param(monkeypatch)
    provider, _, identity = found.name.partition(":")
    if identity not in {device.id for device in default_registry().provider(provider).probe().devices}:
        pytest.skip(f"{found.name} is not here")
    return found


@pytest.fixture(scope="module")
def expected() -> list[np.ndarray]:
    with Session(network(), devices=["cpu"], cache=False) as session:
        return [session.run(feeds)["y"].copy() for feeds in FEEDS]


def runs_around_a_failure(session: Session, faulty: Faulty, how: str) -> list[list[Any]]:
    """What each of the threads got, results and errors in order: before, while and after each run fails."""
    found: list[list[Any]] = [[] for _ in range(THREADS)]
    ended = threading.Event()

    def work(number: int) -> None:
        while not ended.is_set():
            try:
                found[number].append(session.run(FEEDS[number])["y"].copy())
            except Exception as error:
                found[number].append(error)

    def let_run(count: int) -> None:
        """Until each thread has ended so many more runs."""
        aims = [len(each) + count for each in found]
        for _ in range(60_000):
            if all(len(each) >= aim for each, aim in zip(found, aims, strict=True)):
                return
            ended.wait(0.001)
        raise AssertionError("a thread hangs")

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, number) for number in range(THREADS)]
        try:
            let_run(RUNS)
            with faulty.failing(how):
                let_run(RUNS)
            let_run(RUNS)
        finally:
            ended.set()
        for future in futures:
            future.result()
    return found


def check(found: list[Any], expected: np.ndarray, faulty: Faulty) -> list[Exception]:
    """Results must be right; the errors among them are returned."""
    errors = [each for each in found if isinstance(each, Exception)]
    for each in found:
        if not isinstance(each, Exception):
            np.testing.assert_allclose(each, expected, rtol=0, atol=faulty.tolerance * float(np.ptp(expected)))
    return errors


def test_runs_go_on_elsewhere_while_a_device_fails_and_come_back_to_it(
    faulty: Faulty, expected: list[np.ndarray]
) -> None:
    limits = FaultLimits(rest_seconds=0.01, longest_rest_seconds=0.05)
    with Session(network(), devices=[faulty.name, "cpu"], faults=limits) as session:
        session.run(FEEDS[0])
        found = runs_around_a_failure(session, faulty, "once")
        counts = next(each for each in activity.sessions() if faulty.name in each.devices)
        for _ in range(2000):
            session.run(FEEDS[0])
            if session.explain().nodes_per_device.keys() == {faulty.name}:
                break
            time.sleep(0.01)
        assert session.explain().nodes_per_device.keys() == {faulty.name}
    for number in range(THREADS):
        assert not check(found[number], expected[number], faulty)
    assert counts.failures == 0 and counts.moved >= 1 and counts.rested >= 1


def test_where_runs_may_not_move_who_fails_is_told_and_all_others_are_right(
    faulty: Faulty, expected: list[np.ndarray]
) -> None:
    with Session(network(), devices=[faulty.name, "cpu"], faults=FaultLimits(move=False)) as session:
        session.run(FEEDS[0])
        found = runs_around_a_failure(session, faulty, "once")
        assert session.explain().nodes_per_device.keys() == {faulty.name}
    for number in range(THREADS):
        errors = check(found[number], expected[number], faulty)
        assert errors, "each thread has met the failure"
        assert all(isinstance(error, ProviderError) and faulty.name in str(error) for error in errors)
        assert not check(found[number][:RUNS], expected[number], faulty)
        assert not check(found[number][1 - RUNS :], expected[number], faulty)


def test_a_device_that_is_lost_among_runs_is_left_and_nothing_is_lost(
    faulty: Faulty, expected: list[np.ndarray]
) -> None:
    if faulty.name.startswith("npu:"):
        pytest.skip("OpenVINO does not tell a lost device from another failure")
    limits = FaultLimits(rest_seconds=60)
    with Session(network(), devices=[faulty.name, "cpu"], faults=limits) as session:
        session.run(FEEDS[0])
        found = runs_around_a_failure(session, faulty, "lost")
        placement = session.explain()
    assert not any(check(found[number], expected[number], faulty) for number in range(THREADS))
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert "it was lost" in placement.refused[faulty.name]


def test_a_device_that_was_lost_is_opened_again(faulty: Faulty, expected: list[np.ndarray]) -> None:
    if faulty.name.startswith("npu:"):
        pytest.skip("OpenVINO does not tell a lost device from another failure")
    limits = FaultLimits(rest_seconds=0.01)
    with Session(network(), devices=[faulty.name, "cpu"], faults=limits) as session:
        session.run(FEEDS[0])
        with faulty.failing("lost"):
            found = [session.run(FEEDS[0])["y"]]
        time.sleep(0.02)
        found.append(session.run(FEEDS[0])["y"])
        assert session.explain().nodes_per_device.keys() == {faulty.name}
    assert not check(found, expected[0], faulty)
