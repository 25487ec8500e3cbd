"""Element types and shapes of .tflite files, in ours."""

from __future__ import annotations

from typing import TypeAlias

from mace_core.errors import UnsupportedModelError
from mace_core.frontend.tflite.description import FileTensor
from mace_core.tensor import DType, TensorType
from mace_core.tensor.types import MAX_RANK

Sizes: TypeAlias = "tuple[int | None, ...]"
"""A shape: None for sizes that may change."""

_DTYPES: dict[int, DType] = {
    0: DType.FLOAT32,
    1: DType.FLOAT16,
    2: DType.INT32,
    3: DType.UINT8,
    4: DType.INT64,
    5: DType.STRING,
    6: DType.BOOL,
    7: DType.INT16,
    8: DType.COMPLEX64,
    9: DType.INT8,
    10: DType.FLOAT64,
    11: DType.COMPLEX128,
    12: DType.UINT64,
    15: DType.UINT32,
    16: DType.UINT16,
    17: DType.INT4,
    18: DType.BFLOAT16,
    19: DType.INT2,
    20: DType.UINT4,
    21: DType.FLOAT8E4M3FN,
    22: DType.FLOAT8E5M2,
}
"""By the schema's TensorType."""

RESOURCE, VARIANT = 13, 14
"""Element types of handles, which have no values."""

PARTS = {DType.COMPLEX64: DType.FLOAT32, DType.COMPLEX128: DType.FLOAT64}
"""Complex numbers are pairs along an axis of 2 behind the others, as in ONNX's DFT."""


def is_handle(tensor: FileTensor) -> bool:
    """Whether the tensor stands for a variable or a table, not for numbers."""
    return tensor.type in (RESOURCE, VARIANT)


def dtype_of(tensor: FileTensor, where: str) -> DType:
    """The element type of a tensor as the file has it.

    Raises:
        UnsupportedModelError: for handles, and for a number this version does not know.
    """
    found = _DTYPES.get(tensor.type)
    if found is None:
        what = "is a handle, not a tensor of numbers" if is_handle(tensor) else "has an element type"
        number = "" if is_handle(tensor) else f" (number {tensor.type}) that this version does not know"
        raise UnsupportedModelError(f"{where} {what}{number}")
    return found


def shape_of(tensor: FileTensor) -> Sizes | None:
    """The shape, None for sizes that may change, and for an unknown rank."""
    if tensor.signature is not None:
        return tuple(None if size < 0 else size for size in tensor.signature)
    return tensor.shape


def type_of(tensor: FileTensor, where: str) -> TensorType:
    """The type of the value that stands for a tensor.

    Raises:
        UnsupportedModelError: as `dtype_of`, and for more dimensions than arrays can have.
    """
    dtype, shape = dtype_of(tensor, where), shape_of(tensor)
    if shape is not None and len(shape) > MAX_RANK - 1:
        raise UnsupportedModelError(f"{where} has {len(shape)} dimensions; at most {MAX_RANK - 1} are supported")
    if dtype in PARTS:
        return TensorType(PARTS[dtype], None if shape is None else (*shape, 2))
    return TensorType(dtype, shape)
