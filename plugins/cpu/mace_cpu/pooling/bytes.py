"""Pooling of bytes that lie channels last, apart from its generator so that lowerings need no llvmlite."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_cpu.shared.codegen.generated import generated
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
        source: the type of the numbers, "uint8" or "int8".
        mean: how a mean is stored; None: the largest number is taken.
    """

    source: str
    mean: Requantization | None = None

    def kernel(self) -> KernelSource:
        """The kernel; one unit is one row of the result."""
        tag = "max" if self.mean is None else f"mean_{self.mean.tag}"
        symbol = f"byte_pool_{self.source}_{tag}"
        words = WORDS if self.mean is None else WORDS_OF_MEANS
        return generated("mace_cpu.pooling.generate_bytes", symbol, self, words=lambda: words)
