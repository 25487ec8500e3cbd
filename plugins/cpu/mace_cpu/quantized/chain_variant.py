"""What the step of a chain of operators and its generator share."""

from __future__ import annotations

from dataclasses import dataclass

from mace_cpu.shared.epilogue.requantize import Requantization

BINARY = frozenset({"Add", "Sub", "Mul", "Div"})
SINGLE = frozenset(
    {"BatchNormalization", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu"}
) | {"Sigmoid", "Softplus", "Tanh"}
"""Elementwise operators that may be part of a chain: of two operands, and of one that is not constant."""

HEAD = "source target rows columns unit_rows zero scale"
"""Argument words; those of the requantization follow."""


@dataclass(frozen=True, slots=True)
class Chain:
    """What the code depends on.

    Attributes:
        source: type of the input.
        vectors: of float32 that are computed at once.
        spec: what becomes of the input less its zero point.
    """

    source: str
    vectors: int
    spec: Requantization

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        return f"{self.source}v{self.vectors}_{self.spec.tag}"
