"""Sums, differences, products and quotients of quantized numbers, apart from their generator, which needs llvmlite."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_cpu.shared.epilogue.requantize import SHORT, Requantization

HEADER = "length segment segments target a b a_zero b_zero a_factor b_factor zero low high"
HEADER_WORDS = len(HEADER.split())

CONTIGUOUS = "c"
ONE_ELEMENT = "s"


@dataclass(frozen=True, slots=True)
class Pair:
    """A variant of the kernel.

    Attributes:
        kind: "add", "sub", "mul" or "div"; the latter two have one factor, that of ``a``.
        types: of the operands, of 8 or 16 bits.
        reads: how each is read along a row: `CONTIGUOUS` or `ONE_ELEMENT`.
        outer: dimensions outside of a row.
        result: how the result is stored.
    """

    kind: str
    types: tuple[str, str]
    reads: tuple[str, str]
    outer: int
    result: Requantization

    @property
    def symbol(self) -> str:
        """The name of the kernel."""
        operands = "_".join(f"{SHORT[dtype]}{how}" for dtype, how in zip(self.types, self.reads, strict=True))
        return f"byte_{self.kind}_{operands}_{self.outer}_{self.result.tag}"

    @property
    def words(self) -> WordLayout:
        """Lengths are in elements, ``segments`` those of a row; strides, too, are along the outer dimensions."""
        outer = self.outer
        return WordLayout.parse(f"{HEADER} outer[{outer}] a_strides[{outer}] b_strides[{outer}]")
