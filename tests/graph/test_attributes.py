"""Every attribute is checked in one place, whatever operator, opset, provider or source of the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import ModelError
from mace_core.frontend import load_model
from mace_core.graph import Attribute, AttributeKind, Graph
from mace_core.operators.attributes import rule_for

F32 = TensorProto.FLOAT
LISTS = {"INTS": AttributeKind.INTS, "FLOATS": AttributeKind.FLOATS, "STRINGS": AttributeKind.STRINGS}


def schema_attributes() -> Iterator[tuple[Any, str, Any]]:
    for schema in onnx.defs.get_all_schemas_with_history():
        for name, attribute in schema.attributes.items():
            yield schema, name, attribute


def pool_model(op: str = "MaxPool", outputs: int = 1, opset: int = 22, **attributes: Any) -> onnx.ModelProto:
    """One pooling node over x (1, 2, 6, 6); None makes a list attribute without elements."""
    names = [f"y{i}" for i in range(outputs)]
    given = {key: value for key, value in attributes.items() if value is not None}
    node = helper.make_node(op, ["x"], names, name="n", **given)
    for key in attributes.keys() - given.keys():
        node.attribute.add(name=key, type=onnx.AttributeProto.INTS)
    types = [F32, TensorProto.INT64]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", F32, [1, 2, 6, 6])],
        [helper.make_tensor_value_info(name, types[i], None) for i, name in enumerate(names)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: onnx.ModelProto | Graph, x: Any = None) -> list[Any]:
    data = np.arange(72, dtype=np.float32).reshape(1, 2, 6, 6) if x is None else x
    with Session(model, cache=False) as session:
        return list(session.run({"x": data}).values())


def test_every_attribute_of_every_schema_has_a_rule_of_its_kind() -> None:
    kinds = {"TYPE_PROTO": "TYPE"}
    for schema, name, attribute in schema_attributes():
        rule = rule_for(schema.domain, schema.name, name)
        where = (schema.domain, schema.name, schema.since_version, name)
        assert rule is not None, where
        assert kinds.get(attribute.type.name, attribute.type.name) in {kind.name for kind in rule.kinds}, where


def test_every_default_of_the_standard_passes_its_rule() -> None:
    for schema, name, attribute in schema_attributes():
        if attribute.default_value.type and (schema.name, schema.since_version, name) != ("GRU", 1, "direction"):
            value = helper.get_attribute_value(attribute.default_value)  # GRU-1's default is a slip: "foward"
            value = value.decode() if isinstance(value, bytes) else value
            items = [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, list) else value
            rule = rule_for(schema.domain, schema.name, name)
            assert rule is not None
            assert rule.problem(tuple(items) if isinstance(items, list) else items) == "", (schema.name, name)


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool", "LpPool"])
@pytest.mark.parametrize("name", ["strides", "dilations", "pads"])
def test_an_empty_list_is_as_none(op: str, name: str) -> None:
    (found,) = run(pool_model(op, kernel_shape=[2, 2], **{name: None}))
    (expected,) = run(pool_model(op, kernel_shape=[2, 2]))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool", "LpPool"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("strides", [1]), ("strides", [1] * 3), ("dilations", [2]), ("dilations", [1] * 9), ("pads", [0] * 3)],
)
def test_a_list_of_another_length_than_the_axes_is_refused(op: str, name: str, value: list[int]) -> None:
    with pytest.raises(ModelError, match=rf"node 'n' .*'{name}' must have \d elements, not {len(value)}"):
        run(pool_model(op, kernel_shape=[2, 2], **{name: value}))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"storage_order": 1 << 40, "dilations": None}, r"'storage_order' = 1099511627776; it must be from 0 to 1"),
        ({"strides": [0, 1]}, r"'strides' = \[0, 1\]; it must be from 1 to 2147483647"),
        ({"strides": [1, 2**62]}, r"'strides' = .* from 1 to"),
        ({"auto_pad": "SAME"}, r"'auto_pad' = 'SAME'; it must be one of 'NOTSET'"),
        ({"pads": [-1, 0, 0, 0]}, r"'pads' .* from 0 to"),
        ({"ceil_mode": -(2**63)}, r"'ceil_mode' .* from 0 to 1"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_sentence(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=rf"^model 'g': node 'n' \(MaxPool\) has the attribute {words}"):
        run(pool_model(outputs=2, kernel_shape=[2, 2], **attributes))


def test_graphs_that_callers_build_are_checked_too() -> None:
    graph = load_model(pool_model(kernel_shape=[2, 2]))
    graph.nodes[0].attributes["strides"] = Attribute(AttributeKind.INTS, (0, 0))
    with pytest.raises(ModelError, match=r"'strides'"):
        run(graph)
    graph.nodes[0].attributes["strides"] = Attribute(AttributeKind.FLOAT, 1.0)
    with pytest.raises(ModelError, match=r"'strides' = 1.0; it must be of kind INTS, not FLOAT"):
        run(graph)
    graph.nodes[0].attributes["strides"] = Attribute(AttributeKind.INTS, ())
    assert run(graph)[0].shape == (1, 2, 5, 5)


def test_nested_graphs_are_checked_too() -> None:
    pool = helper.make_node("MaxPool", ["x"], ["b"], name="inner", kernel_shape=[2, 2], storage_order=77)
    branch = helper.make_graph([pool], "branch", [], [helper.make_tensor_value_info("b", F32, None)])
    choice = helper.make_node("If", ["c"], ["y0"], then_branch=branch, else_branch=branch)
    model = pool_model(kernel_shape=[2, 2])
    del model.graph.node[:]
    model.graph.node.append(choice)
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    with pytest.raises(ModelError, match=r"node 'inner.*'storage_order'"):
        Session(model, cache=False)


def test_function_bodies_are_checked_with_what_the_call_gives() -> None:
    pool = helper.make_node("MaxPool", ["a"], ["b"], name="inner", kernel_shape=[2, 2])
    pool.attribute.add(name="strides", type=onnx.AttributeProto.INTS, ref_attr_name="steps")
    function = helper.make_function("f", "Pool", ["a"], ["b"], [pool], [helper.make_opsetid("", 22)], ["steps"])
    model = pool_model(kernel_shape=[2, 2])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("f", 1))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Pool", ["x"], ["y0"], domain="f", steps=[0, 1]))
    with pytest.raises(ModelError, match=r"'strides' = \[0, 1\]"):
        Session(model, cache=False)


def test_what_onnxruntimes_operators_need_is_asked_for() -> None:
    model = pool_model(kernel_shape=[2, 2])
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("MultiHeadAttention", ["x"], ["y0"], domain="com.microsoft", name="n"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match=r"node 'n' .* lacks the attribute 'num_heads'"):
        Session(model, cache=False)


def test_unique_along_an_axis_that_is_not_there_is_refused() -> None:
    model = pool_model(kernel_shape=[2, 2])
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Unique", ["x"], ["y0"], axis=5, name="n"))
    with pytest.raises(ModelError, match=r"node 'n' .*axis 5 does not exist in 4 dimensions"):
        run(model)


@pytest.mark.parametrize("outputs", [1, 3])
def test_an_optimizer_step_gives_back_what_it_updates(outputs: int) -> None:
    names = [f"y{i}" for i in range(outputs)]
    attributes = {"decay_factor": 0.0, "epsilon": 1e-6, "norm_coefficient": 0.0}
    domain = "ai.onnx.preview.training"
    node = helper.make_node("Adagrad", ["r", "t", "x", "g", "h"], names, name="n", domain=domain, **attributes)
    inputs = [helper.make_tensor_value_info(name, F32, [2]) for name in ("x", "g", "h")]
    inputs += [helper.make_tensor_value_info("r", F32, []), helper.make_tensor_value_info("t", TensorProto.INT64, [])]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22), helper.make_opsetid(domain, 1)])
    model.ir_version = 8
    with pytest.raises(ModelError, match=rf"node 'n' .*updates 2 values, the node has {outputs} outputs"):
        Session(model, cache=False)


@pytest.mark.parametrize("name", ["keys_strings", "values_strings", "classes_strings", "default_string"])
def test_texts_of_labels_must_be_texts(name: str) -> None:
    rule = rule_for("ai.onnx.ml", "LabelEncoder", name)
    assert rule is not None
    bad, good = b"\xff\xfe", "text"
    assert "UTF-8" in rule.problem(bad if name == "default_string" else (bad,))
    assert not rule.problem(good if name == "default_string" else (good,))


def test_a_shape_of_a_thousand_axes_is_not_told_whole() -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    shape = helper.make_tensor("s", TensorProto.INT64, [1000], [24] * 1000)
    model = helper.make_model(
        helper.make_graph([node], "g", info[:1], info[1:], [shape]), opset_imports=[helper.make_opsetid("", 17)]
    )
    with pytest.raises(ModelError) as raised, Session(model, cache=False) as session:
        session.run({"x": np.zeros((2, 3, 4), np.float32)})
    assert len(str(raised.value)) < 1500
