"""Operators without a shape function of ours: onnx's own inference, imported when first needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.operators.context import NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.registry import find_content_inputs
from mace_core.tensor import DType, MapType, OptionalType, SequenceType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import concrete

if TYPE_CHECKING:
    import onnx


def infer_with_onnx(ctx: NodeContext, opset_imports: Mapping[str, int]) -> Sequence[ValueType | None]:
    """Output types of the node by ``onnx.shape_inference``; tensors may come without a concrete shape.

    Raises:
        ShapeMismatchError: if onnx rejects the inputs.
        UnresolvedShapeError: where onnx cannot say (with the element types it knows).
    """
    import onnx
    from onnx import defs, shape_inference

    node = ctx.node
    try:
        schema = defs.get_schema(node.op_type, ctx.opset, node.domain)
    except defs.SchemaError:
        raise UnresolvedShapeError from None
    if any(True for _ in node.subgraphs()):
        raise UnresolvedShapeError
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(node.inputs)]
    outputs = [f"o{k}" if value is not None else "" for k, value in enumerate(node.outputs)]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name, input=names, output=outputs)
    if any(attribute.kind not in _ATTRIBUTE_FIELDS for attribute in node.attributes.values()):
        raise UnresolvedShapeError
    proto.attribute.extend(_attribute_proto(name, value) for name, value in node.attributes.items())
    types = {name: _type_proto(ctx.type(k)) for k, name in enumerate(names) if name}
    data = {}
    for k, name in enumerate(names):
        content = ctx.content(k) if name and _is_size_like(ctx.type(k)) else None
        if content is not None:
            numbers = concrete(content)  # onnx knows no sizes that are not decided
            found_type = ctx.type(k)
            if content.dtype == object and isinstance(found_type, TensorType):
                numbers = numbers.astype(found_type.dtype.numpy)
            data[name] = _tensor_proto(Tensor.from_numpy(numbers))
    opsets = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in opset_imports.items()]
    try:
        found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=opsets)
    except MemoryError:
        raise
    except Exception as error:  # onnx answers a node that cannot be with any of several exceptions of C++'s
        raise ShapeMismatchError(_in_words(error)) from None
    result = [None if not name else _value_type(found[name]) if name in found else None for name in outputs]
    if any(name and not _is_known(t) for name, t in zip(outputs, result, strict=True)):
        deciding = find_content_inputs(node.domain, node.op_type) or ()
        raise UnresolvedShapeError(*(k for k in deciding if ctx.has(k) and ctx.content(k) is None), types=result)
    return result


def _in_words(error: Exception) -> str:
    """What onnx says, without the names of its own parts around it: ``[ShapeInferenceError] (op_type:…): …``."""
    message = re.sub(r"\[\w*Error\]|\(op_type:[^)]*\):?", " ", str(error))
    return " ".join(message.split()).strip(" :.")


def _is_known(found: ValueType | None) -> bool:
    return found is not None and (not isinstance(found, TensorType) or found.is_concrete)


def _is_size_like(found: ValueType) -> bool:
    """Whether a value can be a size or an axis: small one-dimensional integers.  Weights never pass."""
    if not isinstance(found, TensorType) or found.dtype not in (DType.INT32, DType.INT64):
        return False
    shape = found.concrete_shape
    return len(shape) <= 1 and (not shape or shape[0] <= 64)


def _type_proto(found: ValueType) -> onnx.TypeProto:
    from onnx import helper

    if isinstance(found, TensorType):
        return helper.make_tensor_type_proto(found.dtype.value, found.shape)
    if isinstance(found, SequenceType):
        return helper.make_sequence_type_proto(_type_proto(found.element))
    if isinstance(found, OptionalType):
        return helper.make_optional_type_proto(_type_proto(found.element))
    return helper.make_map_type_proto(found.key.value, _type_proto(found.value))


def _value_type(proto: onnx.TypeProto) -> ValueType | None:
    kind = proto.WhichOneof("value")
    if kind == "sequence_type":
        element = _value_type(proto.sequence_type.elem_type)
        return None if element is None else SequenceType(element)
    if kind == "optional_type":
        element = _value_type(proto.optional_type.elem_type)
        return None if element is None else OptionalType(element)
    if kind == "map_type":
        mapped = _value_type(proto.map_type.value_type)
        return None if mapped is None else MapType(DType(proto.map_type.key_type), mapped)
    if kind != "tensor_type" or proto.tensor_type.elem_type == 0:
        return None
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return TensorType(DType(tensor.elem_type))
    dims = (d.dim_value if d.WhichOneof("value") == "dim_value" else d.dim_param or None for d in tensor.shape.dim)
    return TensorType(DType(tensor.elem_type), tuple(dims))


def _tensor_proto(tensor: Tensor) -> onnx.TensorProto:
    import onnx

    proto = onnx.TensorProto(data_type=tensor.dtype.value, dims=tensor.shape)
    if tensor.dtype is DType.STRING:
        flat = tensor.payload.reshape(-1).tolist()
        proto.string_data.extend(s.encode() if isinstance(s, str) else s for s in flat)
    else:
        proto.raw_data = tensor.payload.tobytes()
    return proto


def _attribute_proto(name: str, attribute: Attribute) -> onnx.AttributeProto:
    import onnx

    kind, value = attribute.kind, attribute.value
    proto = onnx.AttributeProto(name=name, type=kind.value)
    field, convert = _ATTRIBUTE_FIELDS[kind]
    if kind.name.endswith("S"):
        getattr(proto, field).extend(convert(item) for item in value)
    elif kind in (AttributeKind.TENSOR, AttributeKind.TYPE):
        getattr(proto, field).CopyFrom(convert(value))
    else:
        setattr(proto, field, convert(value))
    return proto


def _bytes(text: Any) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


_ATTRIBUTE_FIELDS: dict[AttributeKind, tuple[str, Callable[[Any], Any]]] = {
    AttributeKind.FLOAT: ("f", float),
    AttributeKind.INT: ("i", int),
    AttributeKind.STRING: ("s", _bytes),
    AttributeKind.TENSOR: ("t", _tensor_proto),
    AttributeKind.TYPE: ("tp", _type_proto),
    AttributeKind.FLOATS: ("floats", float),
    AttributeKind.INTS: ("ints", int),
    AttributeKind.STRINGS: ("strings", _bytes),
    AttributeKind.TENSORS: ("tensors", _tensor_proto),
    AttributeKind.TYPES: ("type_protos", _type_proto),
}
