"""Arrays of other libraries, through DLPack, in the element types numpy has none of its own for.

numpy takes over integers, floats of 16 to 64 bits and complex numbers.  bfloat16 and the 8-bit floats are taken over
here, as arrays of ``ml_dtypes``, without a copy.  The structures are those of dlpack.h (DLPack 1.1, Apache-2.0).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.tensor.dtype import DType

_HOST_DEVICES = {1: "cpu", 3: "pinned memory", 11: "pinned memory"}  # kDLCPU, kDLCUDAHost, kDLROCMHost

_NARROW_FLOATS = {
    (4, 16): DType.BFLOAT16,
    (10, 8): DType.FLOAT8E4M3FN,
    (11, 8): DType.FLOAT8E4M3FNUZ,
    (12, 8): DType.FLOAT8E5M2,
    (13, 8): DType.FLOAT8E5M2FNUZ,
    (14, 8): DType.FLOAT8E8M0,
}
"""By DLPack's type code and the bits of one element."""

_MAJOR_VERSION = 1
_READ_ONLY = 1


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class _ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_FORMS = (
    (b"dltensor_versioned", b"used_dltensor_versioned", _ManagedVersioned),
    (b"dltensor", b"used_dltensor", _Managed),
)

_api = ctypes.pythonapi
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))


def from_dlpack(given: Any) -> npt.NDArray[Any]:
    """The array that an object with ``__dlpack__`` holds, without a copy where its memory is the host's.

    Raises:
        TypeError: if it cannot be taken over, in the words that follow "it is …".
    """
    try:
        return np.from_dlpack(given)
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        try:
            found = _take_over(_capsule(given))
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError) as refusal:
            raise TypeError(f"a DLPack tensor that cannot be taken over: {refusal or error}") from error
        return found


def is_on_a_device(given: Any) -> bool:
    """Whether the memory of an object with ``__dlpack__`` is, as it says, that of a device."""
    try:
        return int(given.__dlpack_device__()[0]) not in _HOST_DEVICES
    except Exception:  # of a type that is made before it has such a method, or of no such type: the capsule tells
        return False


def describe(given: Any) -> tuple[DType, tuple[int, ...]]:
    """Element type and shape of an object with ``__dlpack__``, whose memory is not looked at.

    Raises:
        TypeError: if it cannot say, or is not dense and row-major; in the words that follow "it is …".
    """
    try:
        capsule = _capsule(given)
        known = next((form for form in _FORMS if _is_valid(capsule, form[0])), None)
        if known is None:
            raise TypeError("what its __dlpack__ gives is not a unused DLPack capsule")
        managed = known[2].from_address(_pointer(capsule, known[0]))
        tensor = managed.tensor
        form = (tensor.dtype.code, tensor.dtype.bits)
        kind = _NARROW_FLOATS.get(form) or DType.from_label(f"{_NAMES[tensor.dtype.code]}{_bits(form)}")
        shape = tuple(tensor.shape[: tensor.ndim])
        dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        strides = _strides(tensor, shape)
        if tensor.dtype.lanes != 1:
            raise TypeError("its elements are vectors")
    except (BufferError, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise TypeError(f"a DLPack tensor that cannot be taken over: {error}") from error
    if any(size > 1 and stride != wanted for size, stride, wanted in zip(shape, strides, dense, strict=True)):
        raise TypeError("a DLPack tensor of a device that is not dense and row-major; make it contiguous first")
    return kind, shape


_NAMES = {0: "int", 1: "uint", 2: "float", 6: "bool"}


def _bits(form: tuple[int, int]) -> str:
    return "" if form[0] == 6 else str(form[1])


def _capsule(given: Any) -> Any:
    """The capsule, of the versioned form where the producer knows it."""
    try:
        return given.__dlpack__(max_version=(_MAJOR_VERSION, 0))
    except TypeError:  # made before DLPack 1.0
        return given.__dlpack__()


def _take_over(capsule: Any) -> npt.NDArray[Any]:
    known = next((form for form in _FORMS if _is_valid(capsule, form[0])), None)
    if known is None:
        raise TypeError("what its __dlpack__ gives is not an unused DLPack capsule")
    name, used, form = known
    managed = form.from_address(_pointer(capsule, name))
    if isinstance(managed, _ManagedVersioned) and managed.major != _MAJOR_VERSION:
        raise BufferError(f"it is of version {managed.major}.{managed.minor} of DLPack, which is not known")
    tensor = managed.tensor
    kind = _element_type(tensor)
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = _strides(tensor, shape)
    size = math.prod(shape)
    first = (tensor.data or 0) + tensor.byte_offset
    if size and not tensor.data:
        raise BufferError("it has no memory")
    if any(stride < 0 for stride in strides):
        raise BufferError("it runs backwards through its memory; copy it first")
    _rename(capsule, used)  # from here on it is ours to free
    owner = _Owner(managed)
    if not size:
        return np.empty(shape, kind.numpy)
    span = 1 + sum((count - 1) * stride for count, stride in zip(shape, strides, strict=True))
    width = kind.bits // 8
    memory = (ctypes.c_uint8 * (span * width)).from_address(first)
    memory._owner = owner  # the array keeps the memory, the memory its owner
    found: npt.NDArray[Any] = np.ndarray(shape, kind.numpy, memory, strides=[stride * width for stride in strides])
    if isinstance(managed, _Managed) or managed.flags & _READ_ONLY:  # before DLPack 1.0 nothing says it may be written
        found.flags.writeable = False
    return found


def _element_type(tensor: _Tensor) -> DType:
    where = tensor.device_type
    if where not in _HOST_DEVICES:
        raise BufferError(f"its memory is that of a device (DLPack kind {where}); copy it to the host first")
    kind = _NARROW_FLOATS.get((tensor.dtype.code, tensor.dtype.bits))
    if kind is None or tensor.dtype.lanes != 1:
        form = f"code {tensor.dtype.code}, {tensor.dtype.bits} bits, {tensor.dtype.lanes} lanes"
        raise TypeError(f"its element type is not known (DLPack {form}); convert it, or give a numpy array")
    return kind


def _strides(tensor: _Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
    """In elements; none are given for row-major memory."""
    if tensor.strides:
        return tuple(tensor.strides[: tensor.ndim])
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


_Deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
"""Called with the interpreter's lock held, as a producer written in Python needs it."""


class _Owner:
    """Frees what the producer made when the last array over it is gone."""

    __slots__ = ("_managed",)

    def __init__(self, managed: _Managed | _ManagedVersioned) -> None:
        self._managed = managed

    def __del__(self, _function: Any = _Deleter, _address: Any = ctypes.addressof) -> None:  # globals may be gone
        managed = self._managed
        if managed.deleter:
            _function(managed.deleter)(_address(managed))
