"""Constant payloads: weights and attribute tensors, kept as stored bytes without copying."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.tensor.dtype import DType


class FileRange(NamedTuple):
    """Where in which file a payload stands (so that a cached graph can refer to it instead of holding it).

    Attributes:
        path, offset, nbytes: of the payload, in bytes.
        identity: what `mace_core.tensor.files.file_identity` gave when the file was opened; None where a later change
            of the file might give the same.
    """

    path: str
    offset: int
    nbytes: int
    identity: tuple[Any, ...] | None = None


class Tensor:
    """An immutable constant: element type, shape, and the stored bytes (little endian, packed kinds packed).

    The bytes are usually a read-only view into a mapped model file: not necessarily aligned, never copied here.
    String tensors hold a numpy object array of ``str`` (or ``bytes`` where they are not UTF-8) instead of bytes.
    """

    __slots__ = ("_payload", "dtype", "shape", "source")

    def __init__(
        self, dtype: DType, shape: tuple[int, ...], payload: npt.NDArray[Any], source: FileRange | None = None
    ) -> None:
        """Wrap ``payload``: a flat uint8 array of ``dtype.nbytes(size)`` bytes, or an object array for strings.

        Raises:
            ValueError: if the payload's size does not fit ``dtype`` and ``shape``.
        """
        self.dtype = dtype
        self.shape = shape
        self.source = source
        if dtype is DType.STRING:
            if payload.size != math.prod(shape):
                raise ValueError(f"{payload.size} strings given for shape {shape}")
            self._payload = payload.reshape(shape)
        else:
            expected = dtype.nbytes(math.prod(shape))
            if payload.dtype != np.uint8 or payload.ndim != 1 or payload.nbytes != expected:
                raise ValueError(
                    f"a {dtype.label} tensor of shape {shape} takes {expected} bytes, not {payload.nbytes}"
                )
            self._payload = payload

    @classmethod
    def from_numpy(cls, array: npt.ArrayLike) -> Tensor:
        """A constant from a numpy array (``ml_dtypes`` types included); contiguous arrays are not copied."""
        values = np.asarray(array)
        shape = values.shape
        dtype = DType.from_numpy(values.dtype)
        if dtype is DType.STRING:
            return cls(dtype, shape, values.astype(object))
        if dtype.is_packed:
            return cls(dtype, shape, _pack(values.reshape(-1).view(np.uint8), dtype.bits))
        if values.dtype.byteorder == ">":
            values = values.astype(values.dtype.newbyteorder("<"))
        flat = np.ascontiguousarray(values).reshape(-1)
        return cls(dtype, shape, flat.view(np.uint8))

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the payload in bytes; 0 for strings."""
        return 0 if self.dtype is DType.STRING else int(self._payload.nbytes)

    @property
    def payload(self) -> npt.NDArray[Any]:
        """The stored bytes (flat uint8), or the object array of a string tensor.  Read-only by agreement."""
        return self._payload

    def numpy(self) -> npt.NDArray[Any]:
        """The values as an array of this shape: a view where the kind is byte-sized, unpacked otherwise."""
        if self.dtype is DType.STRING:
            return self.payload
        if self.dtype.is_packed:
            codes = _unpack(self.payload, self.dtype.bits, self.size)
            if self.dtype.name.startswith("INT"):  # one int8 each, as ml_dtypes holds them
                sign = np.uint8(1 << (self.dtype.bits - 1))
                codes = (codes ^ sign) - sign
            return codes.view(self.dtype.numpy).reshape(self.shape)
        return self.payload.view(self.dtype.numpy).reshape(self.shape)

    def tolist(self) -> list[Any]:
        """The elements as Python values, row-major."""
        return list(self.numpy().reshape(-1).tolist())

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.label}{list(self.shape)})"


def _pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Pack one code per byte into ``bits``-wide fields, lowest bits first, into as few bytes as hold them."""
    if bits == 6:  # fields straddle bytes: four codes are three bytes
        stream = np.unpackbits(codes.reshape(-1, 1), axis=1, bitorder="little")[:, :6]
        return np.packbits(stream.reshape(-1), bitorder="little")
    per_byte = 8 // bits
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    padded[: codes.size] = codes & ((1 << bits) - 1)
    fields = padded.reshape(-1, per_byte)
    packed = np.zeros(fields.shape[0], np.uint8)
    for i in range(per_byte):
        packed |= fields[:, i] << (bits * i)
    return packed


def _unpack(packed: npt.NDArray[np.uint8], bits: int, size: int) -> npt.NDArray[np.uint8]:
    """The reverse of :func:`_pack`: one code per byte."""
    if bits == 6:
        stream = np.unpackbits(packed, bitorder="little")[: size * 6].reshape(size, 6)
        return np.packbits(stream, axis=1, bitorder="little").reshape(-1)
    per_byte = 8 // bits
    fields = np.empty((packed.size, per_byte), np.uint8)
    for i in range(per_byte):
        fields[:, i] = (packed >> (bits * i)) & ((1 << bits) - 1)
    return fields.reshape(-1)[:size]
