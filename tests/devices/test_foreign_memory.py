"""Inputs in memory of somebody else's: a device that can works on them where they lie, any other gets a copy.

A memfd stands in for a dma-buf: a file descriptor that can be mapped, without a driver behind it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from acme_npu.memory import DeviceMemory
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.errors import InputError, UsageError

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd_create")

SHAPE = (3, 1000)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", SHAPE[1]]) for name in "xy")
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sigmoid", ["r"], ["y"])]
    target = tmp_path / "small.onnx"
    graph = helper.make_graph(nodes, "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), target)
    return target


class Frame:
    """A buffer with a tensor in it, as a camera would hand it over."""

    def __init__(self, values: np.ndarray[Any, Any], offset: int = 0) -> None:
        self.descriptor = os.memfd_create("frame")
        self.offset = offset
        self.fill(values)

    def fill(self, values: np.ndarray[Any, Any]) -> None:
        os.pwrite(self.descriptor, bytes(self.offset) + values.tobytes(), 0)


@pytest.fixture
def values() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).uniform(-2, 2, SHAPE).astype(np.float32)


@pytest.fixture
def frame(values: np.ndarray[Any, Any]) -> Iterator[Frame]:
    made = Frame(values, offset=64)
    yield made
    os.close(made.descriptor)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every copy into the simulator's memory."""
    made: list[int] = []
    honest = DeviceMemory.to_device

    def to_device(self: DeviceMemory, source: object, target: object, nbytes: int, **offsets: int) -> None:
        made.append(nbytes)
        honest(self, source, target, nbytes, **offsets)  # type: ignore[arg-type]

    monkeypatch.setattr(DeviceMemory, "to_device", to_device)
    return made


def expected(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-np.maximum(values, 0)))


def test_a_device_works_on_a_dma_buf_where_it_lies(
    path: Path, frame: Frame, values: np.ndarray[Any, Any], copies: list[int]
) -> None:
    with mace.Session(path, devices=["acme:sim0"], strict=True) as session:
        np.testing.assert_allclose(session.run({"x": values})["y"], expected(values), atol=1e-6)
        assert copies == [values.nbytes], "an array of the caller's is copied"
        copies.clear()
        tensor = mace.DmaBuf(frame.descriptor, "float32", SHAPE, offset=64)
        for scale in (1, 2, 3):
            frame.fill(values * scale)  # the next frame in the same buffer
            np.testing.assert_allclose(session.run({"x": tensor})["y"], expected(values * scale), atol=1e-6)
        assert copies == []
        memory = session._pool.devices[0].backend.memory  # type: ignore[attr-defined]
        assert memory.imported_bytes == 0, "given back after each run"
        np.testing.assert_allclose(session.run({"x": values})["y"], expected(values), atol=1e-6)
        assert copies == [values.nbytes], "and its own memory is used again"


def test_a_dma_buf_of_a_size_that_is_padded_is_copied(
    path: Path, frame: Frame, values: np.ndarray[Any, Any], copies: list[int]
) -> None:
    """Three rows are padded to four on the host, and cut again."""
    options = {"acme": {"largest_bucket": 16}}
    with mace.Session(path, devices=["acme:sim0"], options=options, strict=True) as session:
        for _ in range(2):
            given = mace.DmaBuf(frame.descriptor, "float32", SHAPE, offset=frame.offset)
            found = session.run({"x": given})["y"]
            np.testing.assert_allclose(found, expected(values), rtol=1e-6)
        assert copies == [4 * SHAPE[1] * 4] * 2


def test_an_import_is_given_back_after_a_failure(
    path: Path, frame: Frame, values: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from acme_npu.backend import AcmeExecution

    from mace_core.errors import ProviderBugError

    def fail(*arguments: object) -> None:
        raise ValueError("a defect")

    with mace.Session(path, devices=["acme:sim0"], strict=True) as session:
        with monkeypatch.context() as patch, pytest.raises(ProviderBugError):
            patch.setattr(AcmeExecution, "run", fail)
            session.run({"x": mace.DmaBuf(frame.descriptor, "float32", SHAPE, offset=64)})
        memory = session._pool.devices[0].backend.memory  # type: ignore[attr-defined]
        assert memory.imported_bytes == 0
        np.testing.assert_allclose(session.run({"x": values})["y"], expected(values), atol=1e-6)


def test_the_processor_reads_a_dma_buf_through_a_mapping(
    path: Path, frame: Frame, values: np.ndarray[Any, Any]
) -> None:
    tensor = mace.DmaBuf(frame.descriptor, "float32", SHAPE, offset=64)
    for devices in (["cpu"], ["reference"]):
        with mace.Session(path, devices=devices) as session:
            for scale in (1, 2):
                frame.fill(values * scale)
                np.testing.assert_allclose(session.run({"x": tensor})["y"], expected(values * scale), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("float33", SHAPE), "element type"),
        (("str", SHAPE), "element type|numbers of whole bytes"),
        (("float32", (3, -1)), "shape of whole numbers"),
        (("float32", (3, 1.5)), "shape of whole numbers"),
        (("float32", (3, 100000)), "bytes"),
    ],
)
def test_a_dma_buf_that_is_none_is_refused(frame: Frame, arguments: tuple[Any, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        mace.DmaBuf(frame.descriptor, *arguments)


@pytest.mark.parametrize("descriptor", [-1, 123456, None, "frame"])
def test_a_descriptor_that_is_none_is_refused(descriptor: Any) -> None:
    with pytest.raises(UsageError, match="dma-buf"):
        mace.DmaBuf(descriptor, "float32", SHAPE)


@pytest.mark.parametrize("offset", [-4, 3, 1 << 30, 1.0])
def test_an_offset_that_is_none_is_refused(frame: Frame, offset: Any) -> None:
    with pytest.raises(UsageError):
        mace.DmaBuf(frame.descriptor, "float32", SHAPE, offset=offset)


def test_a_dma_buf_has_to_fit_the_input(path: Path, frame: Frame) -> None:
    with mace.Session(path, devices=["acme:sim0"]) as session:
        with pytest.raises(InputError, match="element type int32; expected float32"):
            session.run({"x": mace.DmaBuf(frame.descriptor, "int32", SHAPE, offset=64)})
        with pytest.raises(InputError, match="wrong size in axis 1"):
            session.run({"x": mace.DmaBuf(frame.descriptor, "float32", (3, 999), offset=64)})


# --- DLPack tensors of a device ---------------------------------------------------------------------------------------


sys.path[:0] = [str(Path(__file__).parents[1] / "scheduler"), str(Path(__file__).parents[1] / "python_api")]
import scheduler_stand_ins as stand_ins  # noqa: E402
from scheduler_models import chain, reshape_model  # noqa: E402
from scheduler_stand_ins import StandInBackend, make_provider, registry_of  # noqa: E402

from mace_core.provider import Buckets, Buffer, ForeignKind, ForeignMemory  # noqa: E402
from mace_core.tensor import MemoryKind  # noqa: E402
from mace_core.tensor.dlpack import _Managed  # noqa: E402

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

DEVICE = 12
"""kDLExtDev: memory that only some extension's device can read."""


class DeviceTensor:
    """A tensor of another library in the memory of its device."""

    def __init__(self, content: np.ndarray[Any, Any], *, transposed: bool = False) -> None:
        self.content = content
        self.transposed = transposed
        self._kept: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return DEVICE, 0

    def __dlpack__(self, **_: Any) -> Any:
        managed = _Managed()
        shape = (ctypes.c_int64 * self.content.ndim)(*self.content.shape)
        steps = [step // self.content.itemsize for step in self.content.strides]
        strides = (ctypes.c_int64 * self.content.ndim)(*(reversed(steps) if self.transposed else steps))
        managed.tensor.data, managed.tensor.device_type = 0xDEAD0000, DEVICE
        managed.tensor.ndim = self.content.ndim
        code = {"f": 2, "i": 0, "u": 1}[self.content.dtype.kind]
        managed.tensor.dtype.code, managed.tensor.dtype.bits = code, self.content.itemsize * 8
        managed.tensor.dtype.lanes = 1
        managed.tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
        managed.tensor.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
        self._kept += [managed, shape, strides]
        return _new(ctypes.addressof(managed), b"dltensor", None)


@pytest.fixture
def importing(monkeypatch: pytest.MonkeyPatch) -> type[stand_ins.StandInProvider]:
    """A device that can read such tensors."""

    def import_memory(self: StandInBackend, memory: ForeignMemory) -> Buffer | None:
        assert memory.kind is ForeignKind.DLPACK
        self.imported += 1
        content = np.ascontiguousarray(memory.tensor.content).view(np.uint8).reshape(-1)
        return Buffer(MemoryKind.DEVICE, memory.nbytes, 0, content.copy(), "stand-in")

    monkeypatch.setattr(StandInBackend, "import_memory", import_memory)
    kinds = frozenset({ForeignKind.DLPACK})
    return make_provider("odd", memory=MemoryKind.DEVICE, has_queue=True, imports=kinds, claims={"Neg", "Abs"})


X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


def test_a_tensor_of_a_device_is_read_where_it_is(importing: type[stand_ins.StandInProvider]) -> None:
    with mace.Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(importing), strict=True) as session:
        for x in (X, X * 2, np.vstack([X, X])):
            np.testing.assert_array_equal(session.run({"x": DeviceTensor(x)})["y"], np.abs(-x))
        (backend,) = importing.opened
        assert backend.counter.uploads == 0
        assert backend.imported == 0, "given back"
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(-X))
        assert backend.counter.uploads == 1


@pytest.mark.parametrize("devices", [["odd"], ["reference"]])
def test_nobody_reads_what_only_a_device_can(importing: type[stand_ins.StandInProvider], devices: list[str]) -> None:
    """The first node is the reference's: never a wrong answer, but an error that says what to do."""
    with (
        mace.Session(chain("Exp", "Abs"), devices=devices, registry=registry_of(importing)) as session,
        pytest.raises(InputError, match=r"input 'x' lies in the memory of a device.*copy it to the host first"),
    ):
        session.run({"x": DeviceTensor(X)})


def test_a_tensor_of_a_device_is_not_padded(
    importing: type[stand_ins.StandInProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host cannot read it: a size that is a bucket is read where it is, and another one is refused."""
    monkeypatch.setattr(StandInBackend, "buckets", Buckets((4,)))
    with mace.Session(chain("Neg"), devices=["odd"], registry=registry_of(importing), strict=True) as session:
        x = np.repeat(X, 4, axis=0)
        np.testing.assert_array_equal(session.run({"x": DeviceTensor(x)})["y"], -x)
        with pytest.raises(InputError, match=r"the host pads it for a device.*copy it to the host first"):
            session.run({"x": DeviceTensor(x[:3])})
        np.testing.assert_array_equal(session.run({"x": x[:3]})["y"], -x[:3])


def test_a_device_that_imports_nothing_of_the_kind_says_so() -> None:
    plain = make_provider("odd", memory=MemoryKind.DEVICE)
    with (
        mace.Session(chain("Neg"), devices=["odd"], registry=registry_of(plain), strict=True) as session,
        pytest.raises(InputError, match="odd:0 cannot import it"),
    ):
        session.run({"x": DeviceTensor(X)})


def test_a_tensor_that_decides_shapes_has_to_be_the_host_s(importing: type[stand_ins.StandInProvider]) -> None:
    with (
        mace.Session(reshape_model(), devices=["odd"], registry=registry_of(importing)) as session,
        pytest.raises(InputError, match="copy it to the host first"),
    ):
        session.run({"x": X, "to": DeviceTensor(np.array([2, 2]))})


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (DeviceTensor(X.astype(np.float64)), "element type float64; expected float32"),
        (DeviceTensor(np.zeros((2, 4), np.float32), transposed=True), "not dense and row-major"),
        (DeviceTensor(np.zeros((1, 5), np.float32)), "wrong size"),
    ],
)
def test_a_tensor_of_a_device_has_to_fit(
    importing: type[stand_ins.StandInProvider], tensor: DeviceTensor, words: str
) -> None:
    with (
        mace.Session(chain("Neg"), devices=["odd"], registry=registry_of(importing)) as session,
        pytest.raises(InputError, match=words),
    ):
        session.run({"x": tensor})


def test_host_memory_is_imported_by_those_who_can() -> None:
    kinds = frozenset({ForeignKind.HOST})
    provider = make_provider("odd", memory=MemoryKind.DEVICE, imports=kinds)
    with mace.Session(chain("Neg"), devices=["odd"], registry=registry_of(provider), strict=True) as session:
        for x in (X, np.asfortranarray(np.vstack([X, X])), X[:, ::1]):
            np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
        (backend,) = provider.opened
        assert (backend.counter.uploads, backend.imported) == (1, 0), "only the one that is not dense is copied"


def test_what_a_queue_still_computes_is_not_imported() -> None:
    """A device on host memory with a lazy queue before one that imports host memory."""
    near = make_provider("near", has_queue=True, claims={"Abs"})
    far = make_provider(
        "far", memory=MemoryKind.DEVICE, has_queue=True, imports=frozenset({ForeignKind.HOST}), claims={"Neg"}
    )
    with mace.Session(chain("Abs", "Neg"), devices=["near", "far"], registry=registry_of(near, far)) as session:
        for scale in (1, 2):
            np.testing.assert_array_equal(session.run({"x": X * scale})["y"], -np.abs(X * scale))


def test_packed_numbers_are_not_imported_as_python_sees_them() -> None:
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    x = helper.make_tensor_value_info("x", TensorProto.INT4, [1, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    given = np.array([[-8, -1, 0, 1, 2, 7]], np.int8)
    imports = frozenset({ForeignKind.HOST})
    provider = make_provider("odd", memory=MemoryKind.DEVICE, imports=imports)
    with mace.Session(model, devices=["odd"], registry=registry_of(provider)) as session:
        from mace_core.tensor import DType

        found = session.run({"x": given.astype(DType.INT4.numpy)})["y"]
    np.testing.assert_array_equal(found, given.astype(np.float32))
