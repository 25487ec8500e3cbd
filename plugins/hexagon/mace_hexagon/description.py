"""A QNN graph as plain data: what lowering produces, and what is then validated, built, or thrown away."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.tensor import DType, QuantEncoding
from mace_hexagon.qnn.types import DataType, TensorKind

Array = npt.NDArray[Any]

QNN_PACKAGE = "qti.aisw"
"""The op package of QNN itself."""


class Content(enum.Enum):
    """What a tensor at the border may hold, as is seen when a graph runs."""

    ANY = "any"
    FINITE = "finite"  # of float16
    MASK = "mask"  # minus infinity too, but not in a whole row


@dataclass(frozen=True, eq=False)
class Encoding:
    """``real = (q - zero_point) * scale``.

    Attributes:
        scales: float32, one, or one per channel.
        zero_points: int32, of the same length.
        axis: the channel axis in the tensor's own dimensions; None per tensor.
    """

    scales: Array
    zero_points: Array
    axis: int | None = None

    def equals(self, other: Encoding | None) -> bool:
        """Whether both stand for the same reals."""
        return (
            other is not None
            and self.axis == other.axis
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
        )


@dataclass(eq=False)
class QTensor:
    """A tensor of a QNN graph.

    Attributes:
        name: unique in the graph.
        data_type: as QNN calls it.
        shape: QNN's dimensions, at least one.
        kind: input, output, between nodes, constant.
        encoding: of fixed-point types.
        data: the content of a constant, of ``shape``.
        content: what an input or output may hold.
    """

    name: str
    data_type: DataType
    shape: tuple[int, ...]
    kind: TensorKind = TensorKind.NATIVE
    encoding: Encoding | None = None
    data: Array | None = None
    content: Content = Content.ANY

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.data_type.bits // 8

    @property
    def is_quantized(self) -> bool:
        return self.encoding is not None


@dataclass(eq=False)
class QOp:
    """A node of a QNN graph.

    Attributes:
        type: QNN's name of the operation.
        name: unique in the graph.
        params: numpy scalars (scalar parameters) and arrays (tensor parameters).
        source: names of the model's nodes it stands for.
        package: the op package it is of.
    """

    type: str
    name: str
    inputs: Sequence[QTensor]
    outputs: Sequence[QTensor]
    params: Mapping[str, Any] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    package: str = QNN_PACKAGE


_PLAIN = {
    DType.FLOAT32: DataType.FLOAT_32,
    DType.FLOAT16: DataType.FLOAT_16,
    DType.INT32: DataType.INT_32,
    DType.UINT32: DataType.UINT_32,
    DType.INT64: DataType.INT_64,
    DType.INT8: DataType.INT_8,
    DType.UINT8: DataType.UINT_8,
    DType.INT16: DataType.INT_16,
    DType.UINT16: DataType.UINT_16,
    DType.BOOL: DataType.BOOL_8,
}

_FIXED = {
    DType.INT8: DataType.SFIXED_POINT_8,
    DType.UINT8: DataType.UFIXED_POINT_8,
    DType.INT16: DataType.SFIXED_POINT_16,
    DType.UINT16: DataType.UFIXED_POINT_16,
    DType.INT32: DataType.SFIXED_POINT_32,
}

CODES: Mapping[DataType, Any] = {fixed: dtype.numpy for dtype, fixed in _FIXED.items()}
"""What the codes of fixed-point types are held in."""


def plain_type(dtype: DType) -> DataType | None:
    """QNN's type of ordinary numbers; None where it has none."""
    return _PLAIN.get(dtype)


def fixed_type(dtype: DType) -> DataType | None:
    """QNN's type of quantized numbers; None where it has none."""
    return _FIXED.get(dtype)


def to_encoding(found: QuantEncoding) -> Encoding | None:
    """The same in the form of descriptions; None for blocked encodings."""
    if found.block_size:
        return None
    return Encoding(found.scale.reshape(-1), found.zero_point.reshape(-1).astype(np.int32), found.axis)
