"""ONNX type descriptions to ours and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_core.errors import UnsupportedModelError
from mace_core.frontend.onnx.text import text
from mace_core.symbolic import is_symbolic
from mace_core.tensor import Dim, DType, MapType, OptionalType, SequenceType, Shape, TensorType, ValueType
from mace_core.tensor.types import MAX_RANK

if TYPE_CHECKING:
    import onnx

_DTYPES = {dtype.value: dtype for dtype in DType}


def dtype_of(code: int, where: str) -> DType | None:
    """The element type of an ONNX code; None for code 0, which means that nothing is said.

    Raises:
        UnsupportedModelError: for a code this version does not know.
    """
    if code == 0:
        return None
    found = _DTYPES.get(code)
    if found is None:
        raise UnsupportedModelError(f"{where} has element type number {code}, which this version does not know")
    return found


def check_rank(rank: int, where: str) -> None:
    """Refuse tensors of more dimensions than arrays can have.

    Raises:
        UnsupportedModelError: saying how many they may have.
    """
    if rank > MAX_RANK:
        raise UnsupportedModelError(f"{where} has {rank} dimensions; at most {MAX_RANK} are supported")


def import_type(proto: onnx.TypeProto, where: str) -> ValueType | None:
    """The type, or None where the file leaves it open.

    Negative sizes, which some exporters write for "any", count as unknown.

    Raises:
        UnsupportedModelError: for sparse and opaque types, and for more than ``MAX_RANK`` dimensions.
    """
    kind = proto.WhichOneof("value")
    if kind is None:
        return None
    if kind == "tensor_type":
        dtype = dtype_of(proto.tensor_type.elem_type, where)
        return None if dtype is None else TensorType(dtype, _import_shape(proto.tensor_type, where))
    if kind == "sequence_type":
        element = import_type(proto.sequence_type.elem_type, where)
        return None if element is None else SequenceType(element)
    if kind == "optional_type":
        element = import_type(proto.optional_type.elem_type, where)
        return None if element is None else OptionalType(element)
    if kind == "map_type":
        key = dtype_of(proto.map_type.key_type, where)
        value = import_type(proto.map_type.value_type, where)
        return None if key is None or value is None else MapType(key, value)
    raise UnsupportedModelError(f"{where} has a {kind.replace('_', ' ')}, which is not supported")


def _import_shape(proto: onnx.TypeProto.Tensor, where: str) -> Shape | None:
    if not proto.HasField("shape"):
        return None
    check_rank(len(proto.shape.dim), where)
    dims: list[Dim] = []
    for dim in proto.shape.dim:
        kind = dim.WhichOneof("value")
        if kind == "dim_value":
            dims.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            name = text(dim.dim_param) if kind == "dim_param" else ""
            # Some exporters write "?" for "unknown": that is not a name, and two of them need not be equal.
            dims.append(name if name not in ("", "?") else None)
    return tuple(dims)


def export_type(type: ValueType, proto: onnx.TypeProto) -> None:
    """Write ``type`` into an empty ``proto``."""
    if isinstance(type, TensorType):
        proto.tensor_type.elem_type = type.dtype.value
        if type.shape is not None:
            proto.tensor_type.shape.SetInParent()
            for size in type.shape:
                dim = proto.tensor_type.shape.dim.add()
                if is_symbolic(size):
                    dim.dim_param = str(size)
                elif isinstance(size, int):
                    dim.dim_value = size
                elif size is not None:
                    dim.dim_param = size
    elif isinstance(type, SequenceType):
        export_type(type.element, proto.sequence_type.elem_type)
    elif isinstance(type, OptionalType):
        export_type(type.element, proto.optional_type.elem_type)
    else:
        proto.map_type.key_type = type.key.value
        export_type(type.value, proto.map_type.value_type)
