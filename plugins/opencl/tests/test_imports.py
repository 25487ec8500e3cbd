"""Memory of the host that a device of the same memory reads where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mace_opencl.memory import IMPORTED_FROM_BYTES, DeviceMemory
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.provider import Buffer, Device, ForeignMemory

COLUMNS = 1024


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every copy to the device."""
    made: list[int] = []

    def counted(name: str, position: int) -> None:
        honest = getattr(DeviceMemory, name)

        def method(self: DeviceMemory, *arguments: Any, **named: Any) -> Any:
            made.append(arguments[position])
            return honest(self, *arguments, **named)

        monkeypatch.setattr(DeviceMemory, name, method)

    counted("to_device", 2)
    counted("enqueue_to_device", 3)
    return made


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every import."""
    made: list[int] = []
    honest = DeviceMemory.import_host

    def import_host(self: DeviceMemory, memory: ForeignMemory) -> Buffer | None:
        found = honest(self, memory)
        if found is not None:
            made.append(memory.nbytes)
        return found

    monkeypatch.setattr(DeviceMemory, "import_host", import_host)
    return made


@pytest.fixture
def session(device: Device) -> Iterator[mace.Session]:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", COLUMNS]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with mace.Session(model, devices=[device.qualified_name], strict=True) as opened:
        if not opened._pool.devices[0].backend.imports:
            pytest.skip("this device has memory apart from the host's")
        yield opened


def aligned(rows: int, *, off_by: int = 0) -> npt.NDArray[np.float32]:
    nbytes = rows * COLUMNS * 4
    raw = np.empty(nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + off_by
    found = raw[start : start + nbytes].view(np.float32).reshape(rows, COLUMNS)
    found[...] = np.random.default_rng(rows).uniform(-1, 1, found.shape)
    return found


LARGE, SMALL = IMPORTED_FROM_BYTES // (COLUMNS * 4), 2


def test_large_arrays_are_read_where_they_lie(session: mace.Session, copies: list[int], imports: list[int]) -> None:
    for _ in range(3):
        x = aligned(LARGE)
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
        x *= -1  # the same memory with another content
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
    assert copies == []
    assert imports == [x.nbytes] * 6


@pytest.mark.parametrize(
    "x", [aligned(SMALL), aligned(LARGE, off_by=4), aligned(LARGE * 2)[::2], aligned(LARGE)[:, ::-1]]
)
def test_what_is_small_or_lies_otherwise_is_copied(
    session: mace.Session, copies: list[int], imports: list[int], x: npt.NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
    assert copies == [x.nbytes]
    assert imports == []


def test_copies_and_imports_take_turns(session: mace.Session, copies: list[int], imports: list[int]) -> None:
    for off_by in (0, 4, 0, 4):
        x = aligned(LARGE, off_by=off_by)
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
    assert (len(copies), len(imports)) == (2, 2)


def test_read_only_arrays_are_left_alone(session: mace.Session, imports: list[int]) -> None:
    x = aligned(LARGE)
    before = x.copy()
    x.flags.writeable = False
    np.testing.assert_array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(x, before)
    assert imports == [x.nbytes]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")
def test_a_dma_buf_is_read_through_its_mapping(session: mace.Session, copies: list[int], imports: list[int]) -> None:
    """A memfd stands in for a dma-buf."""
    x = aligned(LARGE)
    descriptor = os.memfd_create("frame")
    try:
        os.write(descriptor, x.tobytes())
        found = session.run({"x": mace.DmaBuf(descriptor, "float32", x.shape)})["y"]
    finally:
        os.close(descriptor)
    np.testing.assert_array_equal(found, np.maximum(x, 0))
    assert copies == []
    assert imports == [x.nbytes]
