"""One IR node as a one-node ONNX model: what the reference provider evaluates.

Imports onnx; imported only when a reference backend is asked or compiled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, TypeProto, helper

from mace_core.errors import UnsupportedError
from mace_core.graph import Attribute, AttributeKind, GraphView, Node
from mace_core.scheduler.reference_legacy import modern_form
from mace_core.tensor import DType, MapType, OptionalType, SequenceType, Tensor, TensorType, ValueType


def node_model(view: GraphView, node: Node) -> ModelProto:
    """A model of just ``node``: inputs ``i0 …``, outputs ``o0 …``; left-out ones are left out there too.

    The inputs' types are declared where they are known (function bodies may depend on them).
    """
    proto = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name)
    proto.input.extend("" if value is None else f"i{index}" for index, value in enumerate(node.inputs))
    proto.output.extend("" if value is None else f"o{index}" for index, value in enumerate(node.outputs))
    proto.attribute.extend(attribute_proto(name, attribute) for name, attribute in node.attributes.items())
    inputs = [
        helper.make_value_info(f"i{index}", type_proto(view.type(value)))
        for index, value in enumerate(node.inputs)
        if value is not None
    ]
    outputs = [
        helper.make_value_info(f"o{index}", TypeProto())
        for index, value in enumerate(node.outputs)
        if value is not None
    ]
    nodes, versions = [proto], dict(view.opset_imports)
    modern = modern_form(node, proto, view.opset())
    if modern is not None:
        nodes, versions[""] = modern
    graph = helper.make_graph(nodes, node.name, inputs, outputs)
    return helper.make_model(graph, opset_imports=opset_ids(versions, node.domain))


def opset_ids(imports: Mapping[str, int], domain: str) -> list[onnx.OperatorSetIdProto]:
    """Opset imports as protos; ``domain`` is among them even where the model forgot it."""
    versions = dict(imports)
    versions.setdefault("", onnx.defs.onnx_opset_version())
    versions.setdefault(domain, 1)
    return [helper.make_opsetid(name, version) for name, version in versions.items()]


def attribute_proto(name: str, attribute: Attribute) -> AttributeProto:
    """An attribute as a proto.

    Raises:
        UnsupportedError: for nested graphs, which the core runs itself.
    """
    kind, value = attribute.kind, attribute.value
    proto = AttributeProto(name=name, type=kind.value)
    match kind:
        case AttributeKind.FLOAT:
            proto.f = value
        case AttributeKind.INT:
            proto.i = value
        case AttributeKind.STRING:
            proto.s = _encode(value)
        case AttributeKind.TENSOR:
            proto.t.CopyFrom(tensor_proto(value))
        case AttributeKind.FLOATS:
            proto.floats.extend(value)
        case AttributeKind.INTS:
            proto.ints.extend(value)
        case AttributeKind.STRINGS:
            proto.strings.extend(_encode(item) for item in value)
        case AttributeKind.TENSORS:
            proto.tensors.extend(tensor_proto(item) for item in value)
        case AttributeKind.SPARSE_TENSOR:
            proto.sparse_tensor.CopyFrom(_sparse_proto(value))
        case AttributeKind.SPARSE_TENSORS:
            proto.sparse_tensors.extend(_sparse_proto(item) for item in value)
        case AttributeKind.TYPE:
            proto.tp.CopyFrom(type_proto(value))
        case AttributeKind.TYPES:
            proto.type_protos.extend(type_proto(item) for item in value)
        case _:
            raise UnsupportedError(f"attribute '{name}' is a nested graph, which the reference provider does not run")
    return proto


def tensor_proto(tensor: Tensor) -> TensorProto:
    """A constant as a proto."""
    proto = TensorProto(data_type=tensor.dtype.value, dims=tensor.shape)
    if tensor.dtype is DType.STRING:
        proto.string_data.extend(_encode(item) for item in tensor.payload.reshape(-1))
    else:
        proto.raw_data = tensor.payload.tobytes()
    return proto


def type_proto(type: ValueType | None) -> TypeProto:
    """A type as a proto; empty where nothing is known."""
    proto = TypeProto()
    match type:
        case TensorType():
            proto.tensor_type.elem_type = type.dtype.value
            if type.shape is not None:
                proto.tensor_type.shape.SetInParent()
                for dim in type.shape:
                    entry = proto.tensor_type.shape.dim.add()
                    if isinstance(dim, int):
                        entry.dim_value = dim
                    elif dim is not None:
                        entry.dim_param = dim
        case SequenceType():
            proto.sequence_type.elem_type.CopyFrom(type_proto(type.element))
        case OptionalType():
            proto.optional_type.elem_type.CopyFrom(type_proto(type.element))
        case MapType():
            proto.map_type.key_type = type.key.value
            proto.map_type.value_type.CopyFrom(type_proto(type.value))
        case None:
            proto.SetInParent()
    return proto


def _sparse_proto(value: Any) -> onnx.SparseTensorProto:
    values, indices, dims = value
    proto = onnx.SparseTensorProto(dims=dims)
    proto.values.CopyFrom(tensor_proto(values))
    proto.indices.CopyFrom(tensor_proto(indices))
    return proto


def _encode(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()
