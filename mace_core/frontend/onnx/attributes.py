"""Node attributes: their kinds, plain values, and references from function bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_core.errors import ModelError
from mace_core.frontend.onnx.text import text_or_bytes
from mace_core.frontend.onnx.types import import_type
from mace_core.graph.attribute import AttributeKind

if TYPE_CHECKING:
    import onnx

    from mace_core.frontend.onnx.tensors import TensorReader
    from mace_core.frontend.scope import Scope

_KINDS = {kind.value: kind for kind in AttributeKind}

# For models older than the type field: which field is set says what the attribute is.
_FIELDS = (
    ("f", AttributeKind.FLOAT),
    ("i", AttributeKind.INT),
    ("s", AttributeKind.STRING),
    ("t", AttributeKind.TENSOR),
    ("g", AttributeKind.GRAPH),
    ("tp", AttributeKind.TYPE),
    ("sparse_tensor", AttributeKind.SPARSE_TENSOR),
)
_REPEATED_FIELDS = (
    ("floats", AttributeKind.FLOATS),
    ("ints", AttributeKind.INTS),
    ("strings", AttributeKind.STRINGS),
    ("tensors", AttributeKind.TENSORS),
    ("graphs", AttributeKind.GRAPHS),
    ("type_protos", AttributeKind.TYPES),
    ("sparse_tensors", AttributeKind.SPARSE_TENSORS),
)


@dataclass(frozen=True, slots=True)
class Bound:
    """An attribute with what names and references in it mean: a nested graph given to a function reads its caller's."""

    proto: onnx.AttributeProto
    scope: Scope
    bindings: Bindings | None


Bindings: TypeAlias = "dict[str, Bound]"
"""What the attribute parameters of a function are in one call."""


def attribute_kind(proto: onnx.AttributeProto) -> AttributeKind | None:
    """The kind of an attribute, or None if it has none that is known."""
    if proto.type:
        return _KINDS.get(proto.type)
    for field, kind in _FIELDS:
        if proto.HasField(field):
            return kind
    for field, kind in _REPEATED_FIELDS:
        if len(getattr(proto, field)) > 0:
            return kind
    return None


def plain_value(proto: onnx.AttributeProto, kind: AttributeKind, reader: TensorReader, label: str, where: str) -> Any:
    """The value of an attribute that is not a graph; ``where`` names it in messages.

    Raises:
        ModelError: if the value is not valid.
    """
    match kind:
        case AttributeKind.FLOAT:
            return proto.f
        case AttributeKind.INT:
            return proto.i
        case AttributeKind.STRING:
            return text_or_bytes(proto.s)
        case AttributeKind.FLOATS:
            return tuple(proto.floats)
        case AttributeKind.INTS:
            return tuple(proto.ints)
        case AttributeKind.STRINGS:
            return tuple(text_or_bytes(s) for s in proto.strings)
        case AttributeKind.TENSOR:
            return reader.read(proto.t, where)
        case AttributeKind.TENSORS:
            return tuple(reader.read(t, where) for t in proto.tensors)
        case AttributeKind.SPARSE_TENSOR:
            return reader.read_sparse(proto.sparse_tensor, where)
        case AttributeKind.SPARSE_TENSORS:
            return tuple(reader.read_sparse(t, where) for t in proto.sparse_tensors)
        case AttributeKind.TYPE:
            return _type(proto.tp, label, where)
        case AttributeKind.TYPES:
            return tuple(_type(t, label, where) for t in proto.type_protos)
    raise ValueError(f"{kind.name} is not a plain kind")


def _type(proto: onnx.TypeProto, label: str, where: str) -> Any:
    found = import_type(proto, f"{label}: {where}")
    if found is None:
        raise ModelError(f"{label}: {where} is a type that does not say which")
    return found
