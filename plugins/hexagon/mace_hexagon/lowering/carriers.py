"""Ordinary integers inside a QNN graph: whatever their width, they are held as 32-bit signed ones.

The HTP computes with 32-bit integers and has hardly any operation on the others.  Inputs and outputs keep the width
that the model gives them, and are cast where they enter and leave; types that the library does not cast are bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import QTensor, plain_type
from mace_hexagon.qnn.types import DataType, TensorKind

if TYPE_CHECKING:
    from mace_hexagon.lowering.engine import Lowering

INTEGERS = frozenset(
    {DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64}
)
NARROW = frozenset({DType.INT8, DType.INT16, DType.UINT8, DType.UINT16})
"""All their values, sums and differences fit into 32 bits."""

WIDE = frozenset({DType.INT64, DType.UINT64})
SIGNED = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64})
_SAME_SIZE = frozenset({DType.INT32, DType.UINT32})
_BYTE = 256


def held_type(dtype: DType) -> DataType | None:
    """The type in which values that are not quantized are held; None where there is none."""
    return DataType.INT_32 if dtype in INTEGERS else plain_type(dtype)


def enter(lowering: Lowering, name: str, dtype: DType, shape: tuple[int, ...]) -> tuple[QTensor, QTensor]:
    """The application tensor of an integer input, and the tensor that holds it inside."""
    if dtype in _SAME_SIZE:
        tensor = QTensor(lowering.unique(name), DataType.INT_32, shape, TensorKind.APP_WRITE)
        return tensor, tensor
    outside = {2: DataType.INT_16, 8: DataType.INT_64}.get(dtype.numpy.itemsize, DataType.UINT_8)
    tensor = QTensor(lowering.unique(name), outside, shape, TensorKind.APP_WRITE)
    held = _inner(lowering, name, shape)
    lowering.add("Cast", [tensor], [held])
    if dtype in (DType.INT8, DType.UINT16):  # the library cast the bits of the other signedness
        held = wrapped(lowering, held, dtype)
    return tensor, held


def leave(lowering: Lowering, name: str, dtype: DType, held: QTensor) -> QTensor:
    """The application tensor of an integer output that is held in ``held``."""
    if dtype in WIDE:
        return _cast_out(lowering, name, held, DataType.INT_64)
    if dtype is DType.UINT8:
        return _cast_out(lowering, name, held, DataType.UINT_8)
    if dtype is DType.INT8:
        return _cast_out(lowering, name, wrapped(lowering, held, DType.UINT8), DataType.UINT_8)
    if dtype in (DType.INT16, DType.UINT16):
        return _bytes_out(lowering, name, held)
    raise AssertionError(f"{dtype} needs no cast")


def wrapped(lowering: Lowering, held: QTensor, dtype: DType) -> QTensor:
    """``held`` modulo the range of a narrow type, as its arithmetic overflows."""
    span, low = 1 << (8 * dtype.numpy.itemsize), int(np.iinfo(dtype.numpy).min)
    if low:
        held = _with(lowering, "ElementWiseSubtract", held, low)
    held = _with(lowering, "ElementWiseMod", held, span)  # of the sign of the divisor
    return _with(lowering, "ElementWiseAdd", held, low) if low else held


def _bytes_out(lowering: Lowering, name: str, held: QTensor) -> QTensor:
    """Two bytes per number, the lower one first: no cast to 16 bits is offered."""
    count = int(np.prod(held.shape))
    flat = _inner(lowering, name, (count, 1))
    lowering.add("Reshape", [wrapped(lowering, held, DType.UINT16)], [flat])
    low = _with(lowering, "ElementWiseMod", flat, _BYTE)
    high = _with(lowering, "ElementWiseDivide", flat, _BYTE)
    pairs = _inner(lowering, name, (count, 2))
    lowering.add("Concat", [low, high], [pairs], axis=np.uint32(1))
    return _cast_out(lowering, name, pairs, DataType.UINT_8)


def _cast_out(lowering: Lowering, name: str, held: QTensor, data_type: DataType) -> QTensor:
    tensor = QTensor(lowering.unique(name), data_type, held.shape, TensorKind.APP_READ)
    lowering.add("Cast", [held], [tensor])
    return tensor


def _inner(lowering: Lowering, name: str, shape: tuple[int, ...]) -> QTensor:
    return QTensor(lowering.unique(f"{name}.int32"), DataType.INT_32, shape)


def _with(lowering: Lowering, operation: str, held: QTensor, number: int) -> QTensor:
    """``held`` and one constant."""
    constant = lowering.constant(np.full(1, number, np.int32), f"{held.name}.{abs(number)}")
    result = _inner(lowering, held.name, held.shape)
    lowering.add(operation, [held, constant], [result])
    return result
