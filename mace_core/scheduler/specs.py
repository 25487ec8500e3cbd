"""What a session shows of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.graph import Value
from mace_core.scheduler.values import element_dtype
from mace_core.tensor import TensorSpec, TensorType, ValueType


@dataclass(frozen=True, slots=True)
class ValueSpec(TensorSpec):
    """A tensor specification that also knows sequences and optionals.

    Attributes:
        type: the full type; for a sequence or optional, ``dtype`` is that of its elements and ``shape`` None.
    """

    type: ValueType | None = None

    def __str__(self) -> str:
        if self.type is None or isinstance(self.type, TensorType):
            return TensorSpec.__str__(self)
        return f"{self.name}: {self.type}"


def spec_of(value: Value) -> ValueSpec:
    """The specification of a graph input or output."""
    shape = value.type.shape if isinstance(value.type, TensorType) else None
    return ValueSpec(value.name, element_dtype(value.type), shape, value.type)
