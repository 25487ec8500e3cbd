"""What the ONNX frontend makes of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import everything, info, model, package_file, relu_chain

from mace_core.errors import ModelError, UnsupportedModelError, UsageError
from mace_core.frontend import load_model
from mace_core.graph import AttributeKind
from mace_core.tensor import DType, OptionalType, SequenceType, TensorType


@pytest.mark.parametrize("form", ["path", "string", "bytes", "proto"])
def test_a_model_loads_from_a_path_from_bytes_and_from_a_proto(form: str, tmp_path: Path) -> None:
    made = relu_chain()
    path = tmp_path / "m.onnx"
    onnx.save(made, path)
    source = {"path": path, "string": str(path), "bytes": path.read_bytes(), "proto": made}[form]
    graph = load_model(source)
    assert [n.op_type for n in graph.nodes] == ["Relu", "Neg"]
    assert graph.source_path == (str(path) if form in ("path", "string") else None)


def test_a_graph_is_given_back_as_it_is() -> None:
    graph = load_model(relu_chain())
    assert load_model(graph) is graph


def test_other_objects_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"not builtins\.int"):
        load_model(3)


def test_a_content_is_recognized_without_a_suffix(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    onnx.save(relu_chain(), path)
    assert len(load_model(path).nodes) == 2


def test_symbolic_dimensions_keep_their_names_and_negative_ones_are_unknown() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    graph = load_model(model(nodes, [info("x", ["batch", None, -1, 7])], [info("y", None)]))
    assert graph.inputs[0].type == TensorType(DType.FLOAT32, ("batch", None, None, 7))
    assert graph.outputs[0].type == TensorType(DType.FLOAT32, None)


def test_types_of_sequences_and_optionals() -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.INT64, ["n"])
    sequence = helper.make_value_info("s", helper.make_sequence_type_proto(tensor))
    optional = helper.make_value_info("o", helper.make_optional_type_proto(tensor))
    nodes = [helper.make_node("SequenceLength", ["s"], ["a"]), helper.make_node("OptionalHasElement", ["o"], ["b"])]
    outputs = [info("a", [], TensorProto.INT64), info("b", [], TensorProto.BOOL)]
    graph = load_model(model(nodes, [sequence, optional], outputs))
    element = TensorType(DType.INT64, ("n",))
    assert [v.type for v in graph.inputs] == [SequenceType(element), OptionalType(element)]


def test_metadata_and_opsets_are_kept() -> None:
    graph = load_model(everything())
    assert graph.metadata == {"author": "someone"}
    assert graph.opset_imports == {"": 18}  # the domain of inlined functions is gone


def test_an_initializer_that_is_an_input_too_is_a_constant() -> None:
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = load_model(model(nodes, [info("x", [4]), info("w", [4])], [info("y", [4])], [weight]))
    assert [v.name for v in graph.inputs] == ["x"]
    assert graph.initializers["w"].constant is not None


def test_sparse_initializers_are_written_out() -> None:
    dense = np.zeros((2, 3), np.float32)
    dense[0, 1], dense[1, 2] = 5, 7
    nodes = [helper.make_node("Add", ["x", "a"], ["y"]), helper.make_node("Add", ["y", "b"], ["z"])]
    made = model(nodes, [info("x", [2, 3])], [info("z", [2, 3])])
    for name, indices in (("a", np.array([1, 5])), ("b", np.array([[0, 1], [1, 2]]))):
        values = numpy_helper.from_array(np.array([5, 7], np.float32), name)
        sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices, ""), [2, 3])
        made.graph.sparse_initializer.append(sparse)
    graph = load_model(made)
    for name in "ab":
        constant = graph.initializers[name].constant
        assert constant is not None
        np.testing.assert_array_equal(constant.numpy(), dense)


def test_every_node_gets_a_unique_name_and_the_files_own_names_win() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"], name="Relu_0"),
        helper.make_node("Relu", ["b"], ["c"], name="same"),
        helper.make_node("Relu", ["c"], ["y"], name="same"),
    ]
    graph = load_model(model(nodes, [info("x", [1])], [info("y", [1])]))
    assert [n.name for n in graph.nodes] == ["Relu_0_1", "Relu_0", "same", "same_1"]
    assert [n.source for n in graph.nodes] == [("Relu_0_1",), ("Relu_0",), ("same",), ("same",)]


def test_nodes_in_the_wrong_order_are_sorted() -> None:
    made = relu_chain()
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    assert [n.name for n in load_model(made).nodes] == ["relu", "neg"]


def test_nested_graphs_refer_to_outer_values_directly() -> None:
    graph = load_model(everything())
    branch = graph.nodes[0].attr("then_branch")
    assert graph.nodes[0].attributes["then_branch"].kind is AttributeKind.GRAPH
    assert branch.captures() == [graph.inputs[1], graph.initializers["w"]]


def test_a_name_that_a_nested_graph_uses_again_is_made_unique() -> None:
    body = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["y"], ["z"])], "b", [], [info("z")]
    )
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "o", [], [info("z")])
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("If", ["c"], ["r"], then_branch=body, else_branch=other),
        helper.make_node("Add", ["y", "r"], ["out"]),
    ]
    graph = load_model(model(nodes, [info("x", [1]), info("c", [], TensorProto.BOOL)], [info("out", [1])]))
    nested = graph.nodes[1].attr("then_branch")
    inner, outer = nested.nodes[0].outputs[0], graph.nodes[0].outputs[0]
    assert outer is not None
    assert (outer.name, inner.name) == ("y", "y_1")
    assert nested.nodes[1].inputs == [inner]
    assert graph.nodes[2].inputs[0] is outer
    assert nested.outputs[0].name == graph.nodes[1].attr("else_branch").outputs[0].name == "z"  # they do not meet


def test_attributes_of_all_kinds() -> None:
    tensor = numpy_helper.from_array(np.ones(2, np.float32))
    node = helper.make_node(
        "Anything", ["x"], ["y"], domain="custom", f=0.5, i=-3, s="text", fs=[1.0, float("inf")], ns=[1, 2],
        ss=["a", "b"], t=tensor, ts=[tensor, tensor], tp=helper.make_tensor_type_proto(1, [1]),
    )  # fmt: skip
    node.attribute.append(helper.make_attribute("raw", b"\xff\xfe"))
    graph = load_model(model([node], [info("x", [1])], [info("y", [1])], domains={"custom": 1}))
    read = {name: a.value for name, a in graph.nodes[0].attributes.items()}
    assert (read["f"], read["i"], read["s"], read["raw"]) == (0.5, -3, "text", b"\xff\xfe")
    assert (read["fs"], read["ns"], read["ss"]) == ((1.0, float("inf")), (1, 2), ("a", "b"))
    assert read["tp"] == TensorType(DType.FLOAT32, (1,))
    np.testing.assert_array_equal(read["t"].numpy(), np.ones(2))
    assert len(read["ts"]) == 2


def test_operators_of_custom_domains_are_left_to_the_providers() -> None:
    node = helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")
    graph = load_model(model([node], [info("x", [1])], [info("y", [1])]))
    assert graph.nodes[0].qualified_op == "com.microsoft.Gelu"
    assert graph.opset_imports == {"": 18, "com.microsoft": 1}


def test_the_default_domain_has_one_name() -> None:
    made = model([helper.make_node("Relu", ["x"], ["y"], domain="ai.onnx")], [info("x", [1])], [info("y", [1])])
    made.opset_import[0].domain = "ai.onnx"
    graph = load_model(made)
    assert (graph.nodes[0].domain, graph.opset_imports) == ("", {"": 18})


def test_weights_are_views_of_the_mapped_file_and_say_where(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(everything().SerializeToString())
    for mmap in (True, False):
        graph = load_model(path, mmap=mmap)
        weight = graph.initializers["w"].constant
        constant = next(n for n in graph.nodes if n.op_type == "Constant").attr("value")
        for tensor, values in ((weight, np.arange(40)), (constant, np.arange(100))):
            assert tensor is not None and tensor.source is not None
            np.testing.assert_array_equal(tensor.numpy(), values)
            begin, end = tensor.source.offset, tensor.source.offset + tensor.source.nbytes
            assert path.read_bytes()[begin:end] == tensor.payload.tobytes()
            assert not tensor.payload.flags.owndata and not tensor.payload.flags.writeable


def test_real_models_have_the_expected_size() -> None:
    models = package_file("rapidocr_onnxruntime", "models")
    graph = load_model(models / "ch_PP-OCRv4_rec_infer.onnx")
    assert len(graph.nodes) == 860
    assert len(graph.metadata["character"].splitlines()) == 6623
    weights = sum(n.attr("value").nbytes for n in graph.nodes if n.op_type == "Constant")
    assert weights > 10_000_000


# --- what is refused -------------------------------------------------------------------------------------------------


def _unary(op_type: str, **attributes: object) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x"], ["y"], name="it", **attributes)
    return model([node], [info("x", [1])], [info("y", [1])])


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match=r"node 'it' \(Wobble\).*opset 18"):
        load_model(_unary("Wobble"))


def test_an_operator_that_is_newer_than_the_models_opset_is_unknown() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'Gelu'.*opset 18"):
        load_model(_unary("Gelu"))


def test_attributes_are_checked_against_the_operator() -> None:
    with pytest.raises(ModelError, match="attribute 'alfa' that the operator does not have"):
        load_model(_unary("LeakyRelu", alfa=0.1))
    with pytest.raises(ModelError, match="attribute 'alpha' of kind INT; the operator takes FLOAT"):
        load_model(_unary("LeakyRelu", alpha=1))
    with pytest.raises(ModelError, match="lacks the attribute 'to'"):
        load_model(_unary("Cast"))


def test_the_number_of_inputs_is_checked() -> None:
    with pytest.raises(ModelError, match=r"node 'it' \(Conv\) has 1 inputs; the operator takes 2 to 3"):
        load_model(_unary("Conv"))


@pytest.mark.parametrize(("domain", "name"), [("", "ai.onnx"), ("ai.onnx.ml", "ai.onnx.ml")])
def test_an_opset_newer_than_known_is_refused(domain: str, name: str) -> None:
    made = relu_chain()
    made.opset_import.append(helper.make_opsetid(domain, 999))
    if domain == "":
        del made.opset_import[0]
    with pytest.raises(UnsupportedModelError, match=f"opset 999 of domain '{name}'.*pip install"):
        load_model(made)


def test_an_ir_version_newer_than_known_is_refused() -> None:
    made = relu_chain()
    made.ir_version = 99
    with pytest.raises(UnsupportedModelError, match="IR version 99"):
        load_model(made)


def test_cycles_are_refused() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Neg", ["a"], ["b"], name="two"),
    ]
    with pytest.raises(ModelError, match=r"cycle through node '(one|two)'"):
        load_model(model(nodes, [info("x", [1])], [info("b", [1])]))


def test_names_must_be_defined_once() -> None:
    twice = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])]
    with pytest.raises(ModelError, match="'y' is defined twice"):
        load_model(model(twice, [info("x", [1])], [info("y", [1])]))
    with pytest.raises(ModelError, match=r"node 'n' \(Neg\) reads 'nowhere', which nothing"):
        load_model(model([helper.make_node("Neg", ["nowhere"], ["y"], name="n")], [], [info("y", [1])]))
    with pytest.raises(ModelError, match="nothing computes the output 'z'"):
        load_model(model([helper.make_node("Neg", ["x"], ["y"])], [info("x", [1])], [info("z", [1])]))


def test_a_model_without_an_opset_is_refused() -> None:
    made = relu_chain()
    del made.opset_import[:]
    with pytest.raises(ModelError, match="does not say which opset"):
        load_model(made)
