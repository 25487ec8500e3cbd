"""What goes wrong on a device ends in a reason and a fallback, or in one clear error; nothing hangs or crashes."""

from __future__ import annotations

import ctypes
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mace_opencl import launch
from mace_opencl.errors import error_for

from mace_core.errors import (
    DeviceLostError,
    MaceError,
    OutOfMemoryError,
    ProviderBugError,
    StrictPlacementError,
    UnsupportedError,
    UsageError,
)
from mace_core.faults import FaultLimits
from mace_core.graph import Graph
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.cases import Case
from mace_core.testing.runner import run_once, view_of

Network = tuple[Graph, dict[str, npt.NDArray[np.float32]]]
LOST = -36


def opened(device: Device, **options: object) -> Any:
    from mace_opencl.provider import OpenClProvider

    return OpenClProvider().open(device, options)


def product_case(depth: int = 7) -> Case:
    random = np.random.default_rng(0)
    left, right = random.standard_normal((5, depth)), random.standard_normal((depth, 9))
    return Case("product", "MatMul", [left.astype(np.float32), right.astype(np.float32)], frozenset({1}))


class FailingEnqueue:
    """Stands in for clEnqueueNDRangeKernel: passes calls on until it is told to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from mace_opencl import api

        self.calls = 0
        self.fail_from: int | None = None
        real: Callable[..., int] = launch._ENQUEUE(api.load().address("clEnqueueNDRangeKernel"))

        def enqueue(*arguments: Any) -> int:
            self.calls += 1
            return LOST if self.fail_from is not None and self.calls >= self.fail_from else real(*arguments)

        self._callback = launch._ENQUEUE(enqueue)
        original = api.OpenCl.address

        def address(functions: Any, name: str) -> int:
            if name == "clEnqueueNDRangeKernel":
                return int(ctypes.cast(self._callback, ctypes.c_void_p).value or 0)
            return original(functions, name)

        monkeypatch.setattr(api.OpenCl, "address", address)


def test_a_device_lost_in_the_middle_of_a_run_is_raised_once_and_then_avoided(
    device: Device, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, feeds = network
    enqueue = FailingEnqueue(monkeypatch)
    unmoved = FaultLimits(move=False, rest_seconds=60)
    with Session(graph, devices=[device.qualified_name], faults=unmoved) as session:
        expected = session.run(feeds)["y"]
        assert enqueue.calls > 2, "several kernels, so that there is a middle"
        enqueue.fail_from = enqueue.calls + 2
        with pytest.raises(DeviceLostError, match="INVALID_COMMAND_QUEUE") as caught:
            session.run(feeds)
        assert caught.value.device == device.qualified_name
        assert caught.value.node, "the node that was being launched is named"
        np.testing.assert_allclose(session.run(feeds)["y"], expected, atol=1e-5)
        assert "INVALID_COMMAND_QUEUE" in session.explain().refused[device.qualified_name]


def test_too_little_memory_for_the_weights_places_the_nodes_elsewhere_and_says_why(device: Device) -> None:
    case = product_case(depth=600)
    options = {"opencl": {"memory_limit_bytes": 4096}}
    with Session(case.graph(), devices=[device.qualified_name], options=options) as session:
        found = session.run(case.feeds())["y0"]
        assert "may use 4096 bytes of memory" in str(session.explain())
    np.testing.assert_allclose(found, case.inputs[0] @ case.inputs[1], rtol=1e-4, atol=1e-4)
    with pytest.raises(StrictPlacementError, match="may use 4096 bytes"):
        Session(case.graph(), devices=[device.qualified_name], options=options, strict=True)


def test_too_little_memory_for_a_run_is_one_clear_error_and_the_session_stays_usable(device: Device) -> None:
    graph = Case("wide", "Relu", [np.ones((4, 1024), np.float32)]).graph()
    options = {"opencl": {"memory_limit_bytes": 4096}}
    with Session(graph, devices=[device.qualified_name], options=options, strict=True) as session:
        for _ in range(2):
            with pytest.raises(OutOfMemoryError, match="may use 4096 bytes"):
                session.run({"x0": np.ones((4, 1024), np.float32)})


def test_memory_is_given_back_when_allocating_fails(device: Device) -> None:
    backend = opened(device, memory_limit_bytes=1000)
    buffer = backend.memory.allocate(600)
    with pytest.raises(OutOfMemoryError):
        backend.memory.allocate(600)
    backend.memory.free(buffer)
    backend.memory.free(backend.memory.allocate(1000))
    assert backend.memory.used_bytes == 0
    backend.close()


def test_a_buffer_beyond_what_the_driver_allows_is_refused_with_the_limit(device: Device) -> None:
    backend = opened(device, memory_limit_bytes=1 << 62)
    with pytest.raises(OutOfMemoryError, match="its driver allows"):
        backend.memory.allocate(1 << 50)
    backend.close()


@pytest.mark.parametrize("damage", ["flipped", "truncated", "garbage", "foreign", "refused"])
def test_a_stored_program_that_is_not_whole_is_refused_never_run(device: Device, damage: str) -> None:
    backend = opened(device)
    case = product_case()
    view = view_of(case.graph(), case.feeds())
    (compiled,) = backend.compile([view])
    expected = run_once(backend, view, compiled, case.feeds())
    blob = backend.serialize([compiled])
    header, _, binary = blob.partition(b"\n")[2].partition(b"\n")
    magic = blob[: blob.index(b"\n") + 1]
    if damage == "flipped":
        middle = len(blob) - len(binary) // 2
        blob = blob[:middle] + bytes([blob[middle] ^ 0x40]) + blob[middle + 1 :]
    elif damage == "truncated":
        blob = blob[:-100]
    elif damage == "garbage":
        blob = b"\0" * 1000
    elif damage == "foreign":
        blob = magic + header.replace(json.loads(header)["source"].encode(), b"0" * 64) + b"\n" + binary
    else:  # whole, but nothing the driver knows
        from mace_opencl.backend import _digest

        other = b"not a program"
        stated = {"source": json.loads(header)["source"], "binary": _digest(other)}
        blob = magic + json.dumps(stated).encode() + b"\n" + other
    with pytest.raises(UnsupportedError, match=r"stored program"):
        backend.deserialize(blob, [view])
    again = run_once(backend, view, compiled, case.feeds())
    np.testing.assert_array_equal(again["y0"], expected["y0"])
    compiled.close()
    backend.close()


def test_a_session_compiles_anew_where_the_stored_program_is_refused(
    device: Device, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mace_opencl.backend import OpenClBackend

    case = product_case()
    whole = OpenClBackend.serialize
    with monkeypatch.context() as patched:
        patched.setattr(OpenClBackend, "serialize", lambda self, compiled: whole(self, compiled)[:-1])  # type: ignore[index]
        with Session(case.graph(), devices=[device.qualified_name], strict=True) as session:
            expected = session.run(case.feeds())["y0"]
    with (
        caplog.at_level(logging.INFO, "mace"),
        Session(case.graph(), devices=[device.qualified_name], strict=True) as session,
    ):
        np.testing.assert_array_equal(session.run(case.feeds())["y0"], expected)
    assert "its bytes are damaged" in caplog.text


def test_kernels_that_do_not_compile_are_a_reason_with_the_compilers_words(
    device: Device, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr("mace_opencl.backend.source_of", lambda programs: "__kernel void broken( { no_such_name }")
    case = product_case()
    with Session(case.graph(), devices=[device.qualified_name]) as session:
        found = session.run(case.feeds())["y0"]
        explained = str(session.explain())
    assert "cannot compile the kernels" in explained
    assert "error" in explained
    np.testing.assert_allclose(found, case.inputs[0] @ case.inputs[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [0, -5, "much", True])
def test_a_memory_limit_that_means_nothing_is_refused(device: Device, value: object) -> None:
    with pytest.raises(UsageError, match="memory_limit_bytes"):
        opened(device, memory_limit_bytes=value)


def test_a_device_that_is_not_the_one_that_was_found_is_refused(device: Device) -> None:
    import dataclasses

    with pytest.raises(DeviceLostError, match="mace devices --refresh"):
        opened(dataclasses.replace(device, id="77"))
    with pytest.raises(DeviceLostError, match="another GPU"):
        opened(dataclasses.replace(device, name="another GPU"))


@pytest.mark.parametrize(
    ("code", "running", "expected"),
    [
        (-4, False, OutOfMemoryError),
        (-6, True, OutOfMemoryError),
        (-5, False, OutOfMemoryError),
        (-5, True, DeviceLostError),
        (-36, True, DeviceLostError),
        (-9999, True, DeviceLostError),
        (-54, True, ProviderBugError),
        (-12345, True, ProviderBugError),
    ],
)
def test_status_codes_become_the_errors_the_scheduler_acts_on(
    code: int, running: bool, expected: type[MaceError]
) -> None:
    error = error_for(code, "launching 'k'", device="opencl:0", running=running)
    assert type(error) is expected
    assert str(code) in str(error)


def test_memory_that_the_driver_refuses_counts_as_free(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyopencl as cl

    class Refused(cl.Error):  # type: ignore[misc]
        code = -4  # CL_MEM_OBJECT_ALLOCATION_FAILURE

    def refuse(*arguments: Any) -> None:
        raise Refused("refused")

    backend = opened(device, memory_limit_bytes=1000)
    with monkeypatch.context() as patched:
        patched.setattr(cl, "Buffer", refuse)
        for _ in range(3):
            with pytest.raises(OutOfMemoryError, match="600 bytes"):
                backend.memory.allocate(600)
    assert backend.memory.used_bytes == 0
    backend.memory.free(backend.memory.allocate(1000))
    backend.close()
