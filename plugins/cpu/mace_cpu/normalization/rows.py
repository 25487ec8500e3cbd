"""Which variants there are of the kernel that normalizes rows."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout


@dataclass(frozen=True, slots=True)
class RowNorm:
    """Which variant of the kernel.

    Attributes:
        dtype: float32 or float64.
        centered: subtract the mean and divide by the deviation; otherwise divide by the root of the mean square.
        per_part: scale and shift belong to parts instead of elements.
        scale, shift: which of them there are.
        mean, inverse: which statistics are stored, one number per row.
        statistics: the type they are stored in, where that is not ``dtype``.
        deviation_epsilon: epsilon is added to the deviation instead of the variance.
    """

    dtype: str
    centered: bool = True
    per_part: bool = False
    scale: bool = True
    shift: bool = True
    mean: bool = False
    inverse: bool = False
    deviation_epsilon: bool = False
    statistics: str = ""

    @property
    def words(self) -> WordLayout:
        """The argument words: epsilon is float64 bits, ``mean`` and ``inverse`` (deviation) are one number per row."""
        optional = (name for name in ("scale", "shift", "mean", "inverse") if getattr(self, name))
        return WordLayout.parse(" ".join(("source result parts inner period epsilon", *optional)))

    @property
    def symbol(self) -> str:
        flags = ("centered", "per_part", "scale", "shift", "mean", "inverse", "deviation_epsilon")
        chosen = [flag for flag in flags if getattr(self, flag)]
        return "_".join(["row_norm", self.dtype, *chosen, *([self.statistics] if self.statistics else [])])
