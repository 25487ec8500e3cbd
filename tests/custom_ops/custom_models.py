"""Small models with nodes of a custom domain."""

from __future__ import annotations

from typing import Any

import onnx

DOMAIN = "com.example"


def model(*nodes: onnx.NodeProto, shape: Any = (2, 3), outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """A float32 ``x`` of ``shape``, nodes, and ``outputs`` of any type."""
    float32 = onnx.TensorProto.FLOAT
    given = [onnx.helper.make_tensor_value_info("x", float32, shape)]
    made = [onnx.helper.make_tensor_value_info(name, float32, None) for name in outputs]
    graph = onnx.helper.make_graph(list(nodes), "custom", given, made)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def custom(op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, inputs, outputs, name=op_type.lower(), domain=DOMAIN, **attributes)
