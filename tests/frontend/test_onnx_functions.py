"""Model-local functions are inlined when a model is imported."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_models import info, model

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend import load_model
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Graph

OPSET = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]


def function(name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto], **more: object):  # type: ignore[no-untyped-def]
    return helper.make_function("my", name, inputs, outputs, nodes, more.pop("opsets", OPSET), **more)


def calling(nodes: list[onnx.NodeProto], functions: list[onnx.FunctionProto], *, outputs: str = "y") -> onnx.ModelProto:
    return model(
        nodes,
        [info("x", [3]), info("c", [], TensorProto.BOOL)],
        [info(o, [3]) for o in outputs],
        functions=functions,
        domains={"my": 1},
    )


def call(name: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(name, inputs, outputs, domain="my", name=f"call_{name}", **attributes)


def referring(op_type: str, inputs: list[str], outputs: list[str], **references: str) -> onnx.NodeProto:
    """A node of a function's body whose attributes refer to the function's own."""
    node = helper.make_node(op_type, inputs, outputs)
    for name, parameter in references.items():
        node.attribute.add(name=name, ref_attr_name=parameter, type=onnx.AttributeProto.FLOAT)
    return node


def same_results(made: onnx.ModelProto) -> Graph:
    """The imported graph, after making sure that it computes what onnxruntime makes of the model with functions."""
    onnx.checker.check_model(made)
    graph = load_model(made)
    names = {v.name for v in graph.inputs}
    exported = to_onnx(graph)
    assert not exported.functions
    for condition in (True, False):
        feeds = {"x": np.array([-1.5, 0.5, 2], np.float32), "c": np.array(condition)}
        feeds = {k: v for k, v in feeds.items() if k in names}
        ours, theirs = (
            onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
            for m in (exported, made)
        )
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    return graph


def test_a_call_becomes_the_functions_nodes() -> None:
    twice = function("Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])])
    made = calling([call("Twice", ["x"], ["m"]), call("Twice", ["m"], ["y"])], [twice])
    made.graph.node[1].name = ""
    graph = same_results(made)
    assert [n.op_type for n in graph.nodes] == ["Add", "Add"]
    assert [n.name for n in graph.nodes] == ["call_Twice/Add_0", "Twice_1/Add_1"]
    assert [n.source for n in graph.nodes] == [("call_Twice",), ("Twice_1",)]


def test_names_inside_functions_are_unique_per_call() -> None:
    body = [helper.make_node("Neg", ["a"], ["t"]), helper.make_node("Abs", ["t"], ["b"])]
    made = calling([call("F", ["x"], ["t"]), call("F", ["t"], ["y"])], [function("F", ["a"], ["b"], body)])
    made.graph.node[1].name = "again"
    graph = same_results(made)
    values = [v.name for n in graph.nodes for v in n.outputs if v is not None]
    assert len(set(values)) == 4 and len({n.name for n in graph.nodes}) == 4


def test_functions_may_call_functions() -> None:
    inner = function("Inner", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])
    outer = function("Outer", ["a"], ["b"], [call("Inner", ["a"], ["t"]), helper.make_node("Abs", ["t"], ["b"])])
    graph = same_results(calling([call("Outer", ["x"], ["y"])], [outer, inner]))
    assert [n.name for n in graph.nodes] == ["call_Outer/call_Inner/Neg_0", "call_Outer/Abs_1"]


def test_attributes_are_passed_defaulted_and_left_out() -> None:
    leaky = function(
        "Leaky",
        ["a"],
        ["b"],
        [referring("LeakyRelu", ["a"], ["t"], alpha="slope"), referring("Elu", ["t"], ["b"], alpha="other")],
        attributes=["other"],
        attribute_protos=[helper.make_attribute("slope", 0.25)],
    )
    through = function(
        "Through", ["a"], ["b"], [referring("Leaky", ["a"], ["b"], slope="s")], attributes=["s"]
    )  # hands its own attribute on
    through.node[0].domain = "my"
    nodes = [
        call("Leaky", ["x"], ["y"]),
        call("Leaky", ["x"], ["z"], slope=0.5, other=3.0),
        call("Through", ["x"], ["w"], s=0.75),
    ]
    graph = load_model(calling(nodes, [leaky, through], outputs="yzw"))
    assert [n.attr("alpha") for n in graph.nodes] == [0.25, None, 0.5, 3.0, 0.75, None]


def test_overloads_are_told_apart() -> None:
    functions = []
    for overload, op_type in (("one", "Neg"), ("two", "Abs")):
        made = function("F", ["a"], ["b"], [helper.make_node(op_type, ["a"], ["b"])])
        made.overload = overload
        functions.append(made)
    nodes = [call("F", ["x"], ["m"]), call("F", ["m"], ["y"])]
    nodes[0].overload, nodes[1].overload = "two", "one"
    graph = load_model(calling(nodes, functions))
    assert [n.op_type for n in graph.nodes] == ["Abs", "Neg"]


def test_nested_graphs_in_a_body_see_the_body() -> None:
    then = helper.make_graph([referring("LeakyRelu", ["t"], ["r"], alpha="slope")], "then", [], [info("r")])
    other = helper.make_graph([helper.make_node("Neg", ["a"], ["r"])], "else", [], [info("r")])
    body = [
        helper.make_node("Exp", ["a"], ["t"]),
        helper.make_node("If", ["k"], ["b"], then_branch=then, else_branch=other),
    ]
    made = calling(
        [call("F", ["x", "c"], ["y"], slope=0.5)], [function("F", ["a", "k"], ["b"], body, attributes=["slope"])]
    )
    graph = same_results(made)
    branch = graph.nodes[1].attr("then_branch")
    assert branch.nodes[0].inputs == [graph.nodes[0].outputs[0]]
    assert branch.nodes[0].attr("alpha") == 0.5


def test_a_nested_graph_given_to_a_function_reads_its_callers_values() -> None:
    body = helper.make_node("If", ["k"], ["b"], else_branch=helper.make_graph(
        [helper.make_node("Neg", ["a"], ["n"])], "else", [], [info("n")]))  # fmt: skip
    body.attribute.add(name="then_branch", ref_attr_name="branch", type=onnx.AttributeProto.GRAPH)
    chosen = function("Choose", ["a", "k"], ["b"], [body], attributes=["branch"])
    given = helper.make_graph([helper.make_node("Add", ["a", "x"], ["s"])], "given", [], [info("s")])
    nodes = [helper.make_node("Exp", ["x"], ["a"]), call("Choose", ["x", "c"], ["y"], branch=given)]
    graph = load_model(calling(nodes, [chosen]))
    branch = graph.nodes[1].attr("then_branch")
    assert branch.nodes[0].inputs == [graph.nodes[0].outputs[0], graph.inputs[0]]


def test_optional_inputs_and_outputs_may_be_left_out() -> None:
    body = [helper.make_node("Clip", ["a", "low", "high"], ["b"]), helper.make_node("Neg", ["b"], ["unused"])]
    clip = function("MyClip", ["a", "low", "high"], ["unused", "b"], body)
    zero = helper.make_node("Constant", [], ["zero"], value_float=0.0)
    graph = same_results(calling([zero, call("MyClip", ["x", "", "zero"], ["", "y"])], [clip]))
    clipped = graph.nodes[1]
    assert [None if v is None else v.name for v in clipped.inputs] == ["x", None, "zero"]


def test_an_output_that_is_an_input_becomes_an_identity() -> None:
    swap = function("Swap", ["a", "b"], ["b", "a"], [helper.make_node("Neg", ["a"], ["unused"])])
    nodes = [helper.make_node("Exp", ["x"], ["e"]), call("Swap", ["x", "e"], ["y", "z"])]
    graph = load_model(calling(nodes, [swap], outputs="yz"))  # which onnxruntime cannot load
    assert [n.op_type for n in graph.nodes] == ["Exp", "Neg", "Identity", "Identity"]
    exported = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    y, z = exported.run(None, {"x": np.array([1, 2, 3], np.float32), "c": np.array(True)})
    np.testing.assert_allclose(y, np.exp([1, 2, 3]), rtol=1e-6)
    np.testing.assert_array_equal(z, [1, 2, 3])


def test_a_function_goes_before_an_operator_of_the_same_name() -> None:
    relu = helper.make_function("", "Relu", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], OPSET[:1])
    graph = load_model(calling([helper.make_node("Relu", ["x"], ["y"])], [relu]))
    assert [n.op_type for n in graph.nodes] == ["Neg"]


# --- what is refused -------------------------------------------------------------------------------------------------


def test_recursion_is_refused() -> None:
    one = function("One", ["a"], ["b"], [call("Two", ["a"], ["b"])])
    two = function("Two", ["a"], ["b"], [call("One", ["a"], ["b"])])
    with pytest.raises(ModelError, match=r"function 'One' calls itself \(in node 'call_One/call_Two/call_One'"):
        load_model(calling([call("One", ["x"], ["y"])], [one, two]))


def test_functions_that_multiply_are_refused_before_they_fill_the_memory() -> None:
    functions = [function("F0", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])]
    for level in range(1, 30):
        nodes = [call(f"F{level - 1}", ["a" if i == 0 else f"t{i}"], [f"t{i + 1}"]) for i in range(10)]
        functions.append(function(f"F{level}", ["a"], ["t10"], nodes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mace_core.frontend.onnx.functions.MAX_INLINED_NODES", 3000)
        with pytest.raises(UnsupportedModelError, match="more than 3,000 nodes once its function 'F29' is inlined"):
            load_model(calling([call("F29", ["x"], ["y"])], functions))


def test_a_body_for_another_opset_is_refused_only_where_the_operator_changed() -> None:
    older = [helper.make_opsetid("", 12)]
    same = function("Same", ["a"], ["b"], [helper.make_node("Softplus", ["a"], ["b"])], opsets=older)
    assert len(load_model(calling([call("Same", ["x"], ["y"])], [same])).nodes) == 1
    changed = function("Changed", ["a"], ["b"], [helper.make_node("Softmax", ["a"], ["b"])], opsets=older)
    with pytest.raises(UnsupportedModelError, match=r"'Changed', which is written for opset 12 .* model for opset 18"):
        load_model(calling([call("Changed", ["x"], ["y"])], [changed]))


def test_calls_must_fit_the_function() -> None:
    plain = function("F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])
    with pytest.raises(ModelError, match="has 2 inputs; the function has 1"):
        load_model(calling([call("F", ["x", "x"], ["y"])], [plain]))
    with pytest.raises(ModelError, match="has 2 outputs; the function has 1"):
        load_model(calling([call("F", ["x"], ["y", "z"])], [plain]))
    with pytest.raises(ModelError, match="gives an attribute 'k' the function lacks"):
        load_model(calling([call("F", ["x"], ["y"], k=1)], [plain]))


def test_bodies_can_not_read_the_callers_values() -> None:
    leaking = function("F", ["a"], ["b"], [helper.make_node("Add", ["a", "x"], ["b"])])
    with pytest.raises(ModelError, match="reads 'x', which nothing"):
        load_model(calling([call("F", ["x"], ["y"])], [leaking]))


def test_a_body_must_compute_its_outputs() -> None:
    lacking = function("F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["t"])])
    with pytest.raises(ModelError, match="does not compute its output 'b'"):
        load_model(calling([call("F", ["x"], ["y"])], [lacking]))


def test_a_body_may_define_a_name_only_once() -> None:
    for nodes in (
        [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Abs", ["a"], ["b"])],
        [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Abs", ["b"], ["a"])],
    ):
        with pytest.raises(ModelError, match=r"'[ab]' is defined twice"):
            load_model(calling([call("F", ["x"], ["y"])], [function("F", ["a"], ["b"], nodes)]))


def test_two_functions_of_one_name_are_refused() -> None:
    plain = function("F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])
    with pytest.raises(ModelError, match="two functions 'F'"):
        load_model(calling([call("F", ["x"], ["y"])], [plain, plain]))


def test_references_outside_functions_are_refused() -> None:
    made = calling([referring("LeakyRelu", ["x"], ["y"], alpha="slope")], [])
    with pytest.raises(ModelError, match="refers to attribute 'slope' of a function, outside one"):
        load_model(made)
