"""What a session shows of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mace_core.graph import Graph, Value
from mace_core.scheduler.values import element_dtype
from mace_core.tensor import TensorSpec, TensorType, ValueType


@dataclass(frozen=True, slots=True)
class ValueSpec(TensorSpec):
    """A tensor specification that also knows sequences and optionals.

    Attributes:
        type: the full type; for a sequence or optional, ``dtype`` is that of its elements and ``shape`` None.
        optional: the model has a default for this input, which holds where nothing is fed.
    """

    type: ValueType | None = None
    optional: bool = False

    def __str__(self) -> str:
        plain = self.type is None or isinstance(self.type, TensorType)
        text = TensorSpec.__str__(self) if plain else f"{self.name}: {self.type}"
        return f"{text} (optional)" if self.optional else text


def spec_of(value: Value) -> ValueSpec:
    """The specification of a graph input or output."""
    shape = value.type.shape if isinstance(value.type, TensorType) else None
    return ValueSpec(value.name, element_dtype(value.type), shape, value.type)


def optional_spec(name: str, type: ValueType) -> ValueSpec:
    """The specification of an input that has a default."""
    return replace(spec_of(Value(name, type)), optional=True)


def every_input(graph: Graph) -> list[ValueSpec]:
    """The specifications of all inputs of a graph; those that have defaults come last."""
    optional = [optional_spec(name, type) for name, type in graph.defaults.items()]
    return [*map(spec_of, graph.inputs), *optional]
