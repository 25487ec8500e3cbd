"""The integers that a quantized number may become."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.errors import UsageError
from mace_core.tensor import DType

_TYPES = (
    DType.INT4, DType.UINT4, DType.INT8, DType.UINT8, DType.INT16, DType.UINT16,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grid:
    """An integer type and how its zero point is chosen.

    A symmetric grid has a fixed zero point, 0 of signed and the middle of unsigned types, and as many steps below it as
    above (-127 to 127 of int8, 1 to 255 of uint8): the product of two symmetric values needs no correction. An
    asymmetric grid uses every integer, and its zero point goes where the range demands.

    Attributes:
        dtype: a signed or unsigned integer type of 4, 8 or 16 bits.
        is_symmetric: whether the zero point is fixed.

    Raises:
        UsageError: for any other type.
    """

    dtype: DType
    is_symmetric: bool

    def __post_init__(self) -> None:
        if self.dtype not in _TYPES:
            known = ", ".join(known.label for known in _TYPES)
            raise UsageError(f"{self.dtype.label} is not a type to quantize to; choose one of {known}")

    @property
    def is_signed(self) -> bool:
        return self.dtype.name.startswith("INT")

    @property
    def least(self) -> int:
        """The smallest integer used."""
        smallest = -(1 << (self.dtype.bits - 1)) if self.is_signed else 0
        return smallest + 1 if self.is_symmetric else smallest

    @property
    def greatest(self) -> int:
        """The largest integer used."""
        return (1 << (self.dtype.bits - 1)) - 1 if self.is_signed else (1 << self.dtype.bits) - 1

    @property
    def steps(self) -> int:
        """Steps between the smallest and the largest integer used."""
        return self.greatest - self.least

    @property
    def middle(self) -> int:
        """The zero point of a symmetric grid."""
        return 0 if self.is_signed else 1 << (self.dtype.bits - 1)
