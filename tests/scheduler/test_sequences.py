"""Sequences and optionals run in the core, next to devices that compute: laws against Python's lists, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mace_testing.backend_suite import Outcome, judge, suite_cases
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import ModelError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

FEWEST_CASES = 15

SUITE = ("sequence_insert", "split_to_sequence", "optional_", "_opt", "identity_seq", "if_seq")
"""Parts of the names of cases of the ONNX suite.  They are looked up late: making the cases takes seconds."""


def test_cases_of_the_onnx_suite_run_without_the_reference() -> None:
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    names = [name for name in suite_cases() if any(part in name for part in SUITE) and "expanded" not in name]
    verdicts = [judge(suite_cases()[name], "cpu") for name in names]
    assert len(verdicts) >= FEWEST_CASES
    assert [(v.name, v.reason) for v in verdicts if v.outcome is not Outcome.NATIVE] == []


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "lists",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 2])],
        outputs,
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ints(value: int) -> np.ndarray:
    return np.array(value, np.int64)


@given(st.data())
def test_any_row_of_insertions_and_erasures_is_what_a_list_makes_of_it(data: st.DataObject) -> None:
    """Every element is computed by a device (x + k) in memory that is used again, so it must have been kept."""
    expected: list[float] = []
    nodes = [helper.make_node("SequenceEmpty", [], ["s0"])]
    constants: dict[str, np.ndarray] = {}
    for step in range(data.draw(st.integers(1, 6))):
        before, after = f"s{step}", f"s{step + 1}"
        if expected and data.draw(st.booleans()):
            position = data.draw(st.integers(-len(expected), len(expected) - 1))
            del expected[position]
            op = "SequenceErase"
            given_inputs = [before]
        else:
            position = data.draw(st.integers(-len(expected), len(expected)))
            expected.insert(position if position >= 0 else position + len(expected), float(step))
            constants[f"k{step}"] = np.array(step, np.float32)
            nodes.append(helper.make_node("Add", ["x", f"k{step}"], [f"e{step}"]))
            op = "SequenceInsert"
            given_inputs = [before, f"e{step}"]
        constants[f"p{step}"] = ints(position)
        nodes.append(helper.make_node(op, [*given_inputs, f"p{step}"], [after]))
    last = nodes[-1].output[0]
    nodes.append(helper.make_node("SequenceLength", [last], ["length"]))
    outputs = [
        helper.make_tensor_sequence_value_info(last, FLOAT, None),
        helper.make_tensor_value_info("length", INT64, []),
    ]
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    with Session(model(nodes, constants, outputs), cache=False) as session:
        found = session.run({"x": x})
    assert int(found["length"]) == len(expected)
    assert len(found[last]) == len(expected)
    for item, k in zip(found[last], expected, strict=True):
        np.testing.assert_array_equal(item, x + k)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_splitting_and_concatenating_gives_back_the_whole(axis: int, keepdims: int) -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=axis, keepdims=keepdims),
        helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=axis, new_axis=1 - keepdims),
    ]
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    made = model(nodes, {}, [helper.make_tensor_value_info("y", FLOAT, None)])
    with Session(made, cache=False) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], x)
        placed = session.explain()
    assert "reference:0" not in placed.nodes_per_device


WRONG = {
    "position 5 is outside a sequence of 2": helper.make_node("SequenceAt", ["s", "five"], ["y"], name="take"),
    "position -3 is outside a sequence of 2": helper.make_node("SequenceErase", ["s", "minus3"], ["y"], name="take"),
    r"the parts \[2, 2\] do not make up the size 3": helper.make_node(
        "SplitToSequence", ["x", "twos"], ["y"], name="take"
    ),
    "split into parts of -3": helper.make_node("SplitToSequence", ["x", "minus3"], ["y"], name="take"),
    "shapes .* do not fit together along axis 1": helper.make_node(
        "ConcatFromSequence", ["s"], ["y"], axis=1, name="take"
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_can_not_be_names_the_node(message: str) -> None:
    node = WRONG[message]
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one"], ["part"]),
        helper.make_node("SequenceConstruct", ["x", "part"], ["s"]),
        node,
    ]
    given_later = {
        "five": ints(5),
        "minus3": ints(-3),
        "twos": np.array([2, 2]),
        "zero": ints(0)[None],
        "one": ints(1)[None],
    }
    is_list = node.op_type in ("SequenceErase", "SplitToSequence")
    output = helper.make_tensor_sequence_value_info if is_list else helper.make_tensor_value_info
    made = model(nodes, {}, [output("y", FLOAT, None)])
    made.graph.input.extend(helper.make_tensor_value_info(k, INT64, v.shape) for k, v in given_later.items())
    with Session(made, cache=False) as session, pytest.raises(ModelError, match=f"'take'.*{message}"):
        session.run({"x": np.zeros((3, 2), np.float32), **given_later})


def test_an_empty_optional_has_no_element_to_get() -> None:
    nodes = [
        helper.make_node("Optional", [], ["o"], type=helper.make_tensor_type_proto(FLOAT, None)),
        helper.make_node("OptionalGetElement", ["o"], ["y"], name="take"),
    ]
    made = model(nodes, {}, [helper.make_tensor_value_info("y", FLOAT, None)])
    with pytest.raises(ModelError, match=r"'take'.*the optional is empty"):
        Session(made, cache=False).run({"x": np.zeros((1, 2), np.float32)})
