"""Node attributes, with the kind kept so that a graph can be exported as it came."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class AttributeKind(enum.Enum):
    """The kind of an attribute.  The value is ONNX's ``AttributeProto.AttributeType`` code."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE = 13
    TYPES = 14


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    ``value`` is a float, int, str (bytes where not UTF-8), Tensor, Graph or ValueType, or a tuple of them for the
    plural kinds.  A sparse tensor is the triple ``(values, indices, dims)``.
    """

    kind: AttributeKind
    value: Any
