"""Small models for scheduler and session tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def tensor(name: str, shape: Sequence[int | str | None] | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name: str, values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def op(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, name=f"{op_type}_{outputs[0]}", **attributes)


def chain(*ops: str, shape: Sequence[int | str] = ("n", 4)) -> onnx.ModelProto:
    """``x`` through unary ops to ``y``."""
    names = ["x", *(f"t{i}" for i in range(len(ops) - 1)), "y"]
    nodes = [op(o, [names[i]], [names[i + 1]]) for i, o in enumerate(ops)]
    return model(nodes, [tensor("x", shape)], [tensor("y", shape)])


def diamond() -> onnx.ModelProto:
    """Relu and Neg of one input, joined, through Abs and Exp: five nodes that can be split in many ways."""
    nodes = [
        op("Relu", ["x"], ["a"]),
        op("Neg", ["x"], ["b"]),
        op("Add", ["a", "b"], ["c"]),
        op("Abs", ["c"], ["d"]),
        op("Mul", ["d", "a"], ["y"]),
    ]
    return model(nodes, [tensor("x", ["n", 4])], [tensor("y", ["n", 4]), tensor("c", ["n", 4])])


def nonzero_model() -> onnx.ModelProto:
    """The positions of what is positive, then the values there: shapes that depend on data."""
    nodes = [
        op("Relu", ["x"], ["r"]),
        op("NonZero", ["r"], ["where"]),
        op("Transpose", ["where"], ["places"], perm=[1, 0]),
        op("GatherND", ["x", "places"], ["values"]),
        op("Neg", ["values"], ["y"]),
    ]
    return model(nodes, [tensor("x", ["n", 4])], [tensor("y", ["k"]), tensor("places", ["k", 2], INT64)])


def reshape_model() -> onnx.ModelProto:
    """A Reshape whose target is an input."""
    nodes = [op("Neg", ["x"], ["n"]), op("Reshape", ["n", "to"], ["r"]), op("Relu", ["r"], ["y"])]
    return model(nodes, [tensor("x", ["n", 4]), tensor("to", [2], INT64)], [tensor("y", [None, None])])


def products() -> Graph:
    """Two products with an activation between them."""
    rng = np.random.default_rng(0)
    graph = Graph("products")
    graph.opset_imports[""] = 17
    x = Value("x", TensorType(DType.FLOAT32, (4, 8)))
    weights = [Value(f"w{i}", constant=Tensor.from_numpy(rng.standard_normal((8, 8), np.float32))) for i in (0, 1)]
    values = [Value(name, TensorType(DType.FLOAT32, (4, 8))) for name in ("a", "b", "y")]
    graph.inputs, graph.outputs = [x], [values[2]]
    graph.initializers = {weight.name: weight for weight in weights}
    graph.nodes = [
        Node("MatMul", [x, weights[0]], [values[0]], name="first"),
        Node("Relu", [values[0]], [values[1]], name="relu"),
        Node("MatMul", [values[1], weights[1]], [values[2]], name="second"),
    ]
    return graph


PRODUCTS_INPUT = np.random.default_rng(1).standard_normal((4, 8), np.float32)
