"""The numbers that a dense convolution multiplies: bytes, or the bytes of wide numbers, of 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

from mace_cpu.quantized.convolution.arguments import Copies
from mace_cpu.shared.quads import QuadUnit

RADIX = 256
"""Between the high and the low byte of a wide number."""

WORD_SIGN = 1 << 15


@dataclass(frozen=True, slots=True)
class Given:
    """The numbers of an image.

    Attributes:
        is_signed, is_wide: their type: with a sign, of 16 bits.
        ones: 1 if they are summed up for the zero points of the weights, else 0.
    """

    is_signed: bool
    is_wide: bool
    ones: int

    @property
    def planes(self) -> int:
        """Bytes of a number."""
        return 2 if self.is_wide else 1

    @property
    def multiplies_signed(self) -> bool:
        """Whether bytes have a sign if the unit wants nothing else; those of wide numbers have none, as their highest
        bit is changed where it is a sign."""
        return self.is_signed and not self.is_wide

    def changes(self, unit: QuadUnit) -> Copies:
        """What has to be done to them for a unit."""
        if self.is_wide:
            return Copies.SPLIT
        return Copies.FLIPPED if unit.left_offset(self.multiplies_signed) else Copies.NONE

    def flips(self, offset: int) -> int:
        """The bits of wide numbers that are changed, if ``offset`` is added to each byte."""
        if not self.is_wide:
            return 0
        return (WORD_SIGN if self.is_signed else 0) ^ (0x8080 if offset else 0)

    def zeros(self, zero: int, offset: int) -> tuple[int, int]:
        """The high and the low byte of a wide zero point, as they are multiplied."""
        raised = zero + (WORD_SIGN if self.is_signed else 0)
        return (raised >> 8) + offset, (raised & 255) + offset

    def padding(self, zero: int, offset: int) -> int:
        """The bytes of a zero point as they are multiplied, the low one first."""
        if not self.is_wide:
            return (zero + offset) & 255
        high, low = self.zeros(zero, offset)
        return (low & 255) | (high & 255) << 8
