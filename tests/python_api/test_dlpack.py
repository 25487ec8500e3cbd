"""Arrays of other libraries in element types that numpy has none of its own for, through DLPack.

The producer here is made with ctypes after dlpack.h, for no small library exports these types.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import mace_core as mace
from mace_core.errors import InputError
from mace_core.tensor import DType
from mace_core.tensor.dlpack import _Managed, _ManagedVersioned, from_dlpack

CODES = {
    DType.BFLOAT16: (4, 16),
    DType.FLOAT8E4M3FN: (10, 8),
    DType.FLOAT8E4M3FNUZ: (11, 8),
    DType.FLOAT8E5M2: (12, 8),
    DType.FLOAT8E5M2FNUZ: (13, 8),
    DType.FLOAT8E8M0: (14, 8),
}

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Producer:
    """Exports ``array`` as the given kind of DLPack tensor, and counts what was freed."""

    def __init__(
        self,
        array: np.ndarray,
        code: tuple[int, int],
        *,
        versioned: bool = True,
        device: int = 1,
        lanes: int = 1,
        with_strides: bool = True,
        flags: int = 0,
        version: int = 1,
    ) -> None:
        self.array, self.code, self.device, self.lanes = array, code, device, lanes
        self.versioned, self.with_strides, self.flags, self.version = versioned, with_strides, flags, version
        self.freed = 0
        self._deleter = _DELETER(self._free)
        self._kept: list[Any] = []

    def _free(self, _address: int) -> None:
        self.freed += 1

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None, **_: Any) -> Any:
        is_new = self.versioned and max_version is not None
        managed: Any = (_ManagedVersioned if is_new else _Managed)()
        tensor, array = managed.tensor, self.array
        tensor.data, tensor.device_type, tensor.ndim = array.ctypes.data, self.device, array.ndim
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes = *self.code, self.lanes
        sizes = (ctypes.c_int64 * array.ndim)(*array.shape)
        steps = (ctypes.c_int64 * array.ndim)(*(step // array.itemsize for step in array.strides))
        tensor.shape = ctypes.cast(sizes, ctypes.POINTER(ctypes.c_int64))
        if self.with_strides:
            tensor.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
        managed.deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
        if is_new:
            managed.major, managed.flags = self.version, self.flags
        self._kept += [managed, sizes, steps]
        return _new(ctypes.addressof(managed), b"dltensor_versioned" if is_new else b"dltensor", None)


def values(kind: DType, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    return np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(kind.numpy)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.label)
def test_narrow_floats_are_taken_over_without_a_copy_and_freed_once(kind: DType, versioned: bool) -> None:
    source = values(kind)
    producer = Producer(source, CODES[kind], versioned=versioned)
    taken = from_dlpack(producer)
    assert taken.dtype == kind.numpy
    np.testing.assert_array_equal(taken.astype(np.float32), source.astype(np.float32))
    assert np.shares_memory(taken.view(np.uint8), source.view(np.uint8))
    freed_before = producer.freed  # of capsules that numpy looked at and refused
    part = taken[1:]
    del taken
    gc.collect()
    assert producer.freed == freed_before
    del part
    gc.collect()
    assert producer.freed == freed_before + 1


@pytest.mark.parametrize(
    "array",
    [
        values(DType.BFLOAT16).T,
        values(DType.BFLOAT16, (4, 6))[::2, 1::2],
        np.broadcast_to(values(DType.BFLOAT16, (1, 3)), (4, 3)),
        values(DType.BFLOAT16, (0, 3)),
        values(DType.BFLOAT16, ()),
    ],
    ids=["transposed", "with steps", "broadcast", "empty", "scalar"],
)
def test_any_layout_is_read(array: np.ndarray) -> None:
    taken = from_dlpack(Producer(array, CODES[DType.BFLOAT16]))
    assert taken.shape == array.shape
    np.testing.assert_array_equal(taken.astype(np.float32), array.astype(np.float32))


def test_absent_strides_mean_row_major() -> None:
    source = values(DType.BFLOAT16, (2, 3, 4))
    taken = from_dlpack(Producer(source, CODES[DType.BFLOAT16], with_strides=False))
    np.testing.assert_array_equal(taken.astype(np.float32), source.astype(np.float32))


def test_memory_that_may_not_be_written_is_not_writeable() -> None:
    source = values(DType.BFLOAT16)
    assert from_dlpack(Producer(source, CODES[DType.BFLOAT16])).flags.writeable
    assert not from_dlpack(Producer(source, CODES[DType.BFLOAT16], flags=1)).flags.writeable
    assert not from_dlpack(Producer(source, CODES[DType.BFLOAT16], versioned=False)).flags.writeable


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": 2}, "copy it to the host"),
        ({"lanes": 2}, "2 lanes"),
        ({"code": (17, 4)}, "code 17, 4 bits"),
        ({"version": 9}, "version 9"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused_with_a_reason(options: dict[str, Any], words: str) -> None:
    given = {"code": CODES[DType.BFLOAT16], **options}
    with pytest.raises(TypeError, match=words):
        from_dlpack(Producer(values(DType.BFLOAT16), **given))


def test_a_producer_that_raises_is_a_wrong_input() -> None:
    class Broken:
        def __dlpack__(self, **_: Any) -> None:
            raise BufferError("Can't export tensors that require gradient")

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    with pytest.raises(InputError, match=r"input 'x' is a DLPack tensor .*require gradient"):
        identity(DType.FLOAT32).run({"x": Broken()})


def identity(kind: DType) -> mace.Session:
    info = [helper.make_tensor_value_info(name, kind.value, ["n", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", info[:1], info[1:])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    return mace.Session(model, cache=False)


@pytest.mark.parametrize("kind", [DType.BFLOAT16, DType.FLOAT8E4M3FN, DType.FLOAT8E5M2], ids=lambda kind: kind.label)
def test_a_session_runs_on_them(kind: DType) -> None:
    source = values(kind)
    found = identity(kind).run({"x": Producer(source, CODES[kind])})["y"]
    assert found.dtype == kind.numpy
    np.testing.assert_array_equal(found.astype(np.float32), source.astype(np.float32))


def test_the_wrong_narrow_float_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="has element type bfloat16; expected float32"):
        identity(DType.FLOAT32).run({"x": Producer(values(DType.BFLOAT16), CODES[DType.BFLOAT16])})
