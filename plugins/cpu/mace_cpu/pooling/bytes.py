"""Pooling of numbers of 8 or 16 bits that lie channels last, apart from its generator, which needs llvmlite."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_cpu.shared.epilogue.requantize import Requantization

HEAD = (
    "source target channels counts_padding x_zero ratio "
    "inputs[3] outputs[3] taps[3] strides[3] begins[3] dilations[3] ends[3]"
)
WORDS = WordLayout.parse(HEAD)
WORDS_OF_MEANS = WordLayout.parse(f"{HEAD} zero low high")


@dataclass(frozen=True, slots=True)
class BytePool:
    """A variant of the kernel.

    Attributes:
        source: the type of the numbers, of 8 or 16 bits.
        mean: how a mean is stored; None: the largest number is taken.
    """

    source: str
    mean: Requantization | None = None

    @property
    def symbol(self) -> str:
        """The name of the kernel."""
        tag = "max" if self.mean is None else f"mean_{self.mean.tag}"
        return f"byte_pool_{self.source}_{tag}"
