"""What the lowering of interpolation between bytes and its generator share."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_cpu.shared.epilogue.requantize import Requantization

WORDS = WordLayout.parse(
    "source target rows row_weights columns column_weights channels in_rows in_width out_rows out_width "
    "zero ratio result_zero low high"
)
"""Tables hold int32 indices and float32 weights, ``taps`` for each row or column of the result."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """What the code depends on.

    Attributes:
        source: type of the input.
        taps: how many rows, and how many pixels of each, a result is made from.
        vectors: of float32 that are computed at once.
        result: what becomes of a float in steps of the result.
    """

    source: str
    taps: tuple[int, int]
    vectors: int
    result: Requantization

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        return f"{self.source}_{self.taps[0]}x{self.taps[1]}v{self.vectors}_{self.result.tag}"
