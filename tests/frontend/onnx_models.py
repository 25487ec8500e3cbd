"""Small ONNX models for the frontend's tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def info(name: str, shape: list[int | str | None] | None = None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto] | None = None,
    *,
    opset: int = 18,
    functions: list[onnx.FunctionProto] | None = None,
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers or [])
    return helper.make_model(graph, opset_imports=imports, functions=functions or [], ir_version=10)


def relu_chain() -> onnx.ModelProto:
    """x -> Relu -> Neg -> y."""
    nodes = [helper.make_node("Relu", ["x"], ["r"], name="relu"), helper.make_node("Neg", ["r"], ["y"], name="neg")]
    return model(nodes, [info("x", ["n", 4])], [info("y", ["n", 4])])


def everything() -> onnx.ModelProto:
    """A valid model with a weight, a large Constant, an If that captures, a function call."""
    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["t"])], "then", [], [info("t")])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["e"])], "else", [], [info("e")])
    function = helper.make_function(
        "my", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    large = numpy_helper.from_array(np.arange(100, dtype=np.float32))
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other, name="if"),
        helper.make_node("F", ["y"], ["z"], domain="my", name="call"),
        helper.make_node("Constant", [], ["k"], value=large),
        helper.make_node("ReduceSum", ["k"], ["s"], keepdims=0),
        helper.make_node("Add", ["z", "s"], ["q"]),
    ]
    weight = numpy_helper.from_array(np.arange(40, dtype=np.float32), "w")
    made = model(
        nodes,
        [info("c", [], TensorProto.BOOL), info("x", ["n", 40])],
        [info("q", ["n", 40])],
        [weight],
        functions=[function],
        domains={"my": 1},
    )
    helper.set_model_props(made, {"author": "someone"})
    onnx.checker.check_model(made)
    return made


def package_file(package: str, *parts: str) -> Path:
    """A file that an installed package ships; found without importing the package."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    return Path(spec.submodule_search_locations[0]).joinpath(*parts)
