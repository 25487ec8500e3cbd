"""How values look while they run: numpy arrays or Python objects, and the tensors bound for providers.

A dense tensor at a border is row-major ONNX storage (4-bit and 2-bit kinds packed).  To Python code it is a numpy
array, with one element per byte for the packed kinds.  Strings are object arrays, sequences lists, an absent optional
is None: those are bound as ``MemoryKind.OBJECT``.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.host.memory import require_host_memory
from mace_core.provider.execution import BoundTensor
from mace_core.tensor import DType, MemoryKind, OptionalType, SequenceType, Tensor, TensorType, ValueType

RuntimeValue: TypeAlias = Any
"""A numpy array, a list (sequence), a dict (map), or None (an absent optional)."""


def is_dense(type: ValueType | None) -> bool:
    """Whether values of this type are dense memory, not Python objects."""
    return isinstance(type, TensorType) and type.dtype is not DType.STRING


def element_dtype(type: ValueType | None) -> DType:
    """The element type that informs about a value (of sequences and optionals: their elements')."""
    match type:
        case TensorType():
            return type.dtype
        case SequenceType() | OptionalType():
            return element_dtype(type.element)
        case _:
            return DType.FLOAT32


def storage(array: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    """``array`` as contiguous, aligned ONNX storage of ``dtype``: itself where it is that already."""
    if dtype.is_packed:
        return Tensor.from_numpy(array).payload
    if not isinstance(array, np.ndarray):  # an element of a vector, which numpy hands out as a number
        array = np.asarray(array)
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.array(array, order="C", copy=True)


_addressof, _first_byte = ctypes.addressof, ctypes.c_char.from_buffer


def address_of(array: npt.NDArray[Any]) -> int:
    """The address of an array's first byte."""
    try:
        # a third of what numpy's own ways take, but only for memory that may be written and is not empty
        return _addressof(_first_byte(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, BufferError):
        return int(array.ctypes.data)


_PLAIN_FLAGS = 0x0001 | 0x0100
"""Row-major and aligned, as ``ndarray.flags.num`` has them."""


def are_plain(values: Sequence[RuntimeValue]) -> bool:
    """Whether all values are arrays that native code can read where they are."""
    for value in values:
        if type(value) is not np.ndarray or value.flags.num & _PLAIN_FLAGS != _PLAIN_FLAGS:
            return False
    return True


def read_bound(bound: BoundTensor) -> RuntimeValue:
    """The Python form of a bound tensor: a view of host memory (a copy for packed kinds), or the object."""
    if bound.buffer.memory is MemoryKind.OBJECT:
        return bound.buffer.handle
    nbytes = bound.nbytes
    raw = bound.buffer.host_bytes()[bound.offset : bound.offset + nbytes]
    if bound.dtype.is_packed:
        return Tensor(bound.dtype, bound.shape, raw).numpy()
    return raw.view(bound.dtype.numpy).reshape(bound.shape)


def write_bound(bound: BoundTensor, array: npt.NDArray[Any]) -> None:
    """Store an array of the same shape and dtype into a host-addressable bound tensor."""
    nbytes = bound.nbytes
    raw = bound.buffer.host_bytes()[bound.offset : bound.offset + nbytes]
    if bound.dtype.is_packed:
        raw[:] = Tensor.from_numpy(array).payload
    else:
        np.copyto(raw.view(bound.dtype.numpy).reshape(bound.shape), array, casting="no")


def from_storage(array: npt.NDArray[Any], dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The reverse of :func:`storage`."""
    return Tensor(dtype, shape, array).numpy() if dtype.is_packed else array


def fresh_storage(dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """New uninitialized storage: shaped, or flat bytes for packed kinds."""
    require_host_memory(dtype.nbytes(math.prod(shape)))
    if dtype.is_packed:
        return np.empty(dtype.nbytes(math.prod(shape)), np.uint8)
    return np.empty(shape, dtype.numpy)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that marks the values as not its reader's to change."""
    view = array.view()
    view.flags.writeable = False
    return view
