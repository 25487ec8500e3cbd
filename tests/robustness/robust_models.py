"""Models that the tests of this folder share."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper


def small() -> bytes:
    """``a = -x``, ``b = a + z`` over float32 ["n"]."""
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xzab"}
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Add", ["a", "z"], ["b"])]
    graph = helper.make_graph(nodes, "small", [info["x"], info["z"]], [info["a"], info["b"]])
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())
