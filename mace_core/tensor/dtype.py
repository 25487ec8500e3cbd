"""Element types: all that ONNX can name, with their codes, widths and numpy forms."""

from __future__ import annotations

import enum
from functools import cached_property

import numpy as np


class DType(enum.Enum):
    """An element type.  The value is ONNX's ``TensorProto.DataType`` code."""

    FLOAT32 = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    FLOAT64 = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @property
    def label(self) -> str:
        """The lower-case name used in messages and on the command line (``float32``)."""
        return self.name.lower()

    @cached_property
    def bits(self) -> int:
        """Bits of one stored element; 0 for strings, which have no fixed width."""
        return _BITS[self]

    @property
    def is_float(self) -> bool:
        """Whether the elements are floating-point numbers, of any width."""
        return self.name.startswith(("FLOAT", "BFLOAT"))

    @property
    def is_integer(self) -> bool:
        """Whether the elements are signed or unsigned integers, of any width."""
        return self.name.startswith(("INT", "UINT"))

    @cached_property
    def is_packed(self) -> bool:
        """Whether elements take less than a byte, lowest bits first (6-bit kinds: four elements in three bytes)."""
        return 0 < self.bits < 8

    @cached_property
    def numpy(self) -> np.dtype:
        """The numpy dtype of one unpacked element (an ``ml_dtypes`` extension type where numpy has none)."""
        if self in _NUMPY:
            return np.dtype(_NUMPY[self])
        import ml_dtypes  # only for models that use these kinds

        extension: np.dtype = np.dtype(getattr(ml_dtypes, _ML_DTYPES[self]))
        return extension

    @property
    def dtype(self) -> np.dtype:
        """The same as `numpy`.  numpy looks for it: an element type may stand wherever numpy takes a dtype."""
        return self.numpy

    def nbytes(self, elements: int) -> int:
        """Bytes that ``elements`` stored elements take; packed kinds round up to whole bytes."""
        return (elements * self.bits + 7) // 8

    @classmethod
    def from_numpy(cls, dtype: np.dtype | type) -> DType:
        """The element type of a numpy dtype.

        Raises:
            TypeError: if ONNX has no such type.
        """
        dtype = np.dtype(dtype)
        found = _SEEN.get(dtype)
        if found is not None:
            return found
        if dtype.kind in "OUST":
            return cls.STRING
        found = _BY_NUMPY_NAME.get(dtype.name)
        if found is None:
            raise TypeError(f"numpy dtype {dtype} has no ONNX element type")
        _SEEN[dtype] = found
        return found

    @classmethod
    def from_label(cls, label: str) -> DType:
        """The element type called ``label`` (``float32``).

        Raises:
            ValueError: for an unknown name.
        """
        try:
            return cls[label.upper()]
        except KeyError:
            raise ValueError(f"'{label}' is not an element type; known are {', '.join(d.label for d in cls)}") from None


_BITS: dict[DType, int] = {
    DType.FLOAT32: 32,
    DType.UINT8: 8,
    DType.INT8: 8,
    DType.UINT16: 16,
    DType.INT16: 16,
    DType.INT32: 32,
    DType.INT64: 64,
    DType.STRING: 0,
    DType.BOOL: 8,
    DType.FLOAT16: 16,
    DType.FLOAT64: 64,
    DType.UINT32: 32,
    DType.UINT64: 64,
    DType.COMPLEX64: 64,
    DType.COMPLEX128: 128,
    DType.BFLOAT16: 16,
    DType.FLOAT8E4M3FN: 8,
    DType.FLOAT8E4M3FNUZ: 8,
    DType.FLOAT8E5M2: 8,
    DType.FLOAT8E5M2FNUZ: 8,
    DType.FLOAT8E8M0: 8,
    DType.UINT4: 4,
    DType.INT4: 4,
    DType.FLOAT4E2M1: 4,
    DType.UINT2: 2,
    DType.INT2: 2,
    DType.FLOAT6E2M3: 6,
    DType.FLOAT6E3M2: 6,
}

_NUMPY: dict[DType, type] = {
    DType.FLOAT32: np.float32,
    DType.UINT8: np.uint8,
    DType.INT8: np.int8,
    DType.UINT16: np.uint16,
    DType.INT16: np.int16,
    DType.INT32: np.int32,
    DType.INT64: np.int64,
    DType.STRING: np.object_,
    DType.BOOL: np.bool_,
    DType.FLOAT16: np.float16,
    DType.FLOAT64: np.float64,
    DType.UINT32: np.uint32,
    DType.UINT64: np.uint64,
    DType.COMPLEX64: np.complex64,
    DType.COMPLEX128: np.complex128,
}

_ML_DTYPES: dict[DType, str] = {
    DType.BFLOAT16: "bfloat16",
    DType.FLOAT8E4M3FN: "float8_e4m3fn",
    DType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    DType.FLOAT8E5M2: "float8_e5m2",
    DType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    DType.FLOAT8E8M0: "float8_e8m0fnu",
    DType.FLOAT4E2M1: "float4_e2m1fn",
    DType.UINT4: "uint4",
    DType.INT4: "int4",
    DType.UINT2: "uint2",
    DType.INT2: "int2",
    DType.FLOAT6E2M3: "float6_e2m3fn",
    DType.FLOAT6E3M2: "float6_e3m2fn",
}

_SEEN: dict[np.dtype, DType] = {}  # numpy takes some microseconds to make the name of a dtype

_BY_NUMPY_NAME: dict[str, DType] = {np.dtype(t).name: d for d, t in _NUMPY.items() if d is not DType.STRING}
_BY_NUMPY_NAME.update({name: d for d, name in _ML_DTYPES.items()})
