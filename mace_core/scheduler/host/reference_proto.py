"""One IR node as a one-node ONNX model: what the reference provider evaluates.

Imports onnx; imported only when a reference backend is asked or compiled.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import ModelProto, NodeProto, helper

from mace_core.frontend.onnx.protos import write_attribute
from mace_core.frontend.onnx.types import export_type
from mace_core.graph import GraphView, Node
from mace_core.scheduler.host.reference_legacy import modern_form
from mace_core.tensor import ValueType


def node_model(view: GraphView, node: Node) -> ModelProto:
    """A model of just ``node``: inputs ``i0 …``, outputs ``o0 …``; left-out ones are left out there too.

    The inputs' types are declared where they are known (function bodies may depend on them).
    """
    proto = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name)
    proto.input.extend("" if value is None else f"i{index}" for index, value in enumerate(node.inputs))
    proto.output.extend("" if value is None else f"o{index}" for index, value in enumerate(node.outputs))
    for name, attribute in node.attributes.items():
        write_attribute(name, attribute, proto.attribute.add())
    inputs = [_info(f"i{index}", view.type(value)) for index, value in enumerate(node.inputs) if value is not None]
    outputs = [_info(f"o{index}", None) for index, value in enumerate(node.outputs) if value is not None]
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


def _info(name: str, type: ValueType | None) -> onnx.ValueInfoProto:
    """A declared input; without a type where nothing is known."""
    info = onnx.ValueInfoProto(name=name)
    info.type.SetInParent()
    if type is not None:
        export_type(type, info.type)
    return info
