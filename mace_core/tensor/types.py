"""Static types of values, and the specification a session shows for its inputs and outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np

from mace_core.tensor.dtype import DType

MAX_RANK = 64 if int(np.__version__.split(".")[0]) >= 2 else 32
"""Dimensions a tensor may have: what numpy's arrays can."""

_SHOWN_DIMS = 16

Dim: TypeAlias = "int | str | None"
"""One dimension: a number, a symbolic name, or None when nothing is known."""

Shape: TypeAlias = "tuple[Dim, ...]"
"""The dimensions of a tensor, the outermost first."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor.  ``shape`` is None when even the rank is unknown."""

    dtype: DType
    shape: Shape | None = None

    @property
    def is_concrete(self) -> bool:
        """Whether every dimension is a number."""
        if self.shape is None:
            return False
        for size in self.shape:  # noqa: SIM110 - asked for every value of a graph, where a generator takes as long again
            if not isinstance(size, int):
                return False
        return True

    @property
    def concrete_shape(self) -> tuple[int, ...]:
        """The shape as numbers.

        Raises:
            ValueError: if some dimension is not known.
        """
        if self.shape is None or not self.is_concrete:
            raise ValueError(f"the shape {format_shape(self.shape)} is not concrete")
        return cast("tuple[int, ...]", self.shape)

    @property
    def size(self) -> int:
        """The number of elements.

        Raises:
            ValueError: if some dimension is not known.
        """
        return math.prod(self.concrete_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, packed where the element type is smaller than a byte.

        Raises:
            ValueError: if some dimension is not known.
        """
        return self.dtype.nbytes(self.size)

    def __str__(self) -> str:
        return f"{self.dtype.label}{format_shape(self.shape)}"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence of values of one type."""

    element: ValueType

    def __str__(self) -> str:
        return f"seq({self.element})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent."""

    element: ValueType

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map (ai.onnx.ml)."""

    key: DType
    value: ValueType

    def __str__(self) -> str:
        return f"map({self.key.label}, {self.value})"


ValueType: TypeAlias = "TensorType | SequenceType | OptionalType | MapType"
"""The type of any value of a graph."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of a model input or output; symbolic dimensions stay names."""

    name: str
    dtype: DType
    shape: Shape | None

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.label}{format_shape(self.shape)}"


def format_shape(shape: Shape | None) -> str:
    """``(1, 3, 'h', ?)`` as ``[1, 3, h, ?]``; ``[...]`` for an unknown rank; the beginning of a very long one."""
    if shape is None:
        return "[...]"
    shown = ", ".join("?" if d is None else str(d) for d in shape[:_SHOWN_DIMS])
    return f"[{shown}]" if len(shape) <= _SHOWN_DIMS else f"[{shown}, … of {len(shape)} dimensions]"
