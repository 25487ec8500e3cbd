"""Constants and attributes as protos: what the exporter and the reference provider share."""

from __future__ import annotations

import onnx

from mace_core.errors import UnsupportedError
from mace_core.frontend.onnx.types import export_type
from mace_core.graph import Attribute, AttributeKind
from mace_core.tensor import DType, Tensor


def write_payload(tensor: Tensor, proto: onnx.TensorProto) -> None:
    """Put the values of ``tensor`` into ``proto`` itself."""
    if tensor.dtype is DType.STRING:
        proto.string_data.extend(encoded(item) for item in tensor.payload.reshape(-1))
    else:
        proto.raw_data = tensor.payload.tobytes()


def write_tensor(tensor: Tensor, proto: onnx.TensorProto) -> None:
    """Type, shape and values."""
    proto.data_type = tensor.dtype.value
    proto.dims.extend(tensor.shape)
    write_payload(tensor, proto)


def write_attribute(name: str, attribute: Attribute, proto: onnx.AttributeProto) -> None:
    """Write an attribute of any kind but the nested graphs.

    Raises:
        UnsupportedError: for nested graphs, whose values only their writer can name.
    """
    kind, value = attribute.kind, attribute.value
    proto.name, proto.type = name, kind.value
    match kind:
        case AttributeKind.FLOAT:
            proto.f = value
        case AttributeKind.INT:
            proto.i = value
        case AttributeKind.STRING:
            proto.s = encoded(value)
        case AttributeKind.FLOATS:
            proto.floats.extend(value)
        case AttributeKind.INTS:
            proto.ints.extend(value)
        case AttributeKind.STRINGS:
            proto.strings.extend(encoded(item) for item in value)
        case AttributeKind.TENSOR:
            write_tensor(value, proto.t)
        case AttributeKind.TENSORS:
            for tensor in value:
                write_tensor(tensor, proto.tensors.add())
        case AttributeKind.SPARSE_TENSOR:
            _write_sparse(value, proto.sparse_tensor)
        case AttributeKind.SPARSE_TENSORS:
            for sparse in value:
                _write_sparse(sparse, proto.sparse_tensors.add())
        case AttributeKind.TYPE:
            export_type(value, proto.tp)
        case AttributeKind.TYPES:
            for type in value:
                export_type(type, proto.type_protos.add())
        case _:
            raise UnsupportedError(f"attribute '{name}' is a nested graph, which cannot be written alone")


def constants_of(attribute: Attribute) -> tuple[Tensor, ...]:
    """The constants an attribute holds."""
    match attribute.kind:
        case AttributeKind.TENSOR:
            return (attribute.value,)
        case AttributeKind.TENSORS:
            return tuple(attribute.value)
        case AttributeKind.SPARSE_TENSOR:
            return tuple(attribute.value[:2])
        case AttributeKind.SPARSE_TENSORS:
            return tuple(tensor for sparse in attribute.value for tensor in sparse[:2])
        case _:
            return ()


def encoded(text: str | bytes) -> bytes:
    """A string as ONNX stores it."""
    return text if isinstance(text, bytes) else str(text).encode()


def _write_sparse(sparse: tuple[Tensor, Tensor, tuple[int, ...]], proto: onnx.SparseTensorProto) -> None:
    values, indices, dims = sparse
    write_tensor(values, proto.values)
    write_tensor(indices, proto.indices)
    proto.dims.extend(dims)
