"""Models and inputs that cannot be: one error of ours that says which node and why, and no memory is taken first."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.errors import MaceError, ModelError, OutOfMemoryError

F32, I64 = TensorProto.FLOAT, TensorProto.INT64


def model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, Any]], outputs: dict[str, int], **initializers: Any
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(made.SerializeToString())


def run(made: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    with mace.Session(made, devices=["reference"]) as session:
        return session.run(feeds)


def shaped(op: str, *, as_input: bool, shape: list[int]) -> tuple[bytes, dict[str, Any]]:
    """A node that makes a tensor of ``shape`` from next to nothing."""
    names = {"Expand": ["x", "s"], "Tile": ["x", "s"], "ConstantOfShape": ["s"]}[op]
    inputs: dict[str, tuple[int, Any]] = {"x": (F32, [1, 1])}
    feeds: dict[str, Any] = {"x": np.ones((1, 1), np.float32)}
    node = helper.make_node(op, names, ["y"], name="big")
    if as_input:
        return model([node], {**inputs, "s": (I64, [2])}, {"y": F32}), {**feeds, "s": np.array(shape)}
    return model([node], inputs, {"y": F32}, s=np.array(shape)), feeds


@pytest.mark.parametrize("as_input", [True, False])
@pytest.mark.parametrize("op", ["Expand", "Tile", "ConstantOfShape"])
def test_a_tensor_larger_than_the_memory_is_refused_before_it_is_made(op: str, as_input: bool) -> None:
    side = 2 * int(psutil.virtual_memory().total ** 0.5)
    made, feeds = shaped(op, as_input=as_input, shape=[side, side])
    before = psutil.Process().memory_info().rss
    with pytest.raises(OutOfMemoryError, match=r"model 'odd': .* GB of host memory are needed .* are available"):
        run(made, feeds)
    assert psutil.Process().memory_info().rss - before < 100 << 20


@pytest.mark.parametrize("op", ["Expand", "Tile", "ConstantOfShape"])
def test_a_tensor_larger_than_any_memory_names_its_node(op: str) -> None:
    made, feeds = shaped(op, as_input=True, shape=[2**40, 2**40])
    with pytest.raises(ModelError, match=r"node 'big'.*larger than any memory"):
        run(made, feeds)


@pytest.mark.parametrize("op", ["Expand", "ConstantOfShape"])
def test_a_negative_size_names_its_node(op: str) -> None:
    made, feeds = shaped(op, as_input=True, shape=[-3, 2])
    with pytest.raises(ModelError, match=r"node 'big'.*negative"):
        run(made, feeds)


@pytest.mark.parametrize("limit", [np.nan, np.inf, 1e30])
def test_a_range_without_a_number_of_elements_is_refused(limit: float) -> None:
    made = model(
        [helper.make_node("Range", ["a", "b", "c"], ["y"], name="range")],
        {name: (F32, []) for name in "abc"},
        {"y": F32},
    )
    with pytest.raises(ModelError, match="node 'range'"):
        run(made, {"a": 0.0, "b": limit, "c": 1.0})


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 0.0])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    made = model(
        [helper.make_node("Resize", ["x", "", "s"], ["y"], name="resize")],
        {"x": (F32, [1, 1, 4, 4]), "s": (F32, [4])},
        {"y": F32},
    )
    feeds = {"x": np.ones((1, 1, 4, 4), np.float32), "s": np.array([1, 1, scale, 1], np.float32)}
    with pytest.raises(ModelError, match=r"node 'resize'.*axis 2 must be a positive number"):
        run(made, feeds)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], axis=7, name="n"), "axis 7 does not exist"),
        (helper.make_node("Cast", ["x"], ["y"], to=99, name="n"), "no element type of number 99"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[0, 3], name="n"), "must be from 1"),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2], name="n"), "not a permutation"),
        (helper.make_node("Flatten", ["x"], ["y"], axis=9, name="n"), "9"),
        (helper.make_node("Concat", ["x", "x"], ["y"], axis=-9, name="n"), "axis -9 does not exist"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_an_attribute_that_means_nothing_is_refused(node: onnx.NodeProto, words: str) -> None:
    made = model([node], {"x": (F32, ["n", 2, 4, 4])}, {"y": F32})
    with pytest.raises(ModelError, match=rf"node 'n' .*{words}"):
        run(made, {"x": np.ones((1, 2, 4, 4), np.float32)})


def test_a_condition_of_many_values_is_refused() -> None:
    def branch(op: str) -> onnx.GraphProto:
        output = [helper.make_tensor_value_info(f"{op}_out", F32, None)]
        return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_out"])], op, [], output)

    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch("Abs"), else_branch=branch("Neg"))
    made = model([node], {"x": (F32, [1]), "c": (TensorProto.BOOL, ["k"])}, {"y": F32})
    with pytest.raises(ModelError, match=r"node 'choice' \(If\): its condition must be one truth value, not 2"):
        run(made, {"x": np.ones(1, np.float32), "c": np.array([True, False])})


def test_an_output_listed_twice_comes_once() -> None:
    made = onnx.load_from_string(model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F32, [2])}, {"y": F32}))
    made.graph.output.append(made.graph.output[0])
    found = run(made.SerializeToString(), {"x": np.ones(2, np.float32)})
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], [-1, -1])


def test_names_of_any_length_leave_a_message_that_can_be_read() -> None:
    long = "n" * 100_000
    made = model([helper.make_node("MatMul", [long, long], ["y"], name=long)], {long: (F32, [1, 3])}, {"y": F32})
    with pytest.raises(MaceError) as caught:
        run(made, {long: np.ones((1, 3), np.float32)})
    assert len(str(caught.value)) < 2000


class Broken:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array today")


def test_an_object_that_fails_to_become_an_array_is_named() -> None:
    made = model([helper.make_node("Neg", ["x"], ["y"])], {"x": (F32, ["n"])}, {"y": F32})
    with pytest.raises(mace.errors.InputError, match="input 'x' is not an array: no array today"):
        run(made, {"x": Broken()})


def test_functions_that_double_forty_times_are_refused_at_once() -> None:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    made = onnx.load_from_string(
        model([helper.make_node("F0", ["x"], ["y"], domain="local")], {"x": (F32, [2])}, {"y": F32})
    )
    made.opset_import.append(imports[1])
    for level in range(40):
        name = f"F{level + 1}"
        calls = [helper.make_node(name, [a], [b], domain="local") for a, b in (("a", "c"), ("c", "b"))]
        made.functions.append(helper.make_function("local", f"F{level}", ["a"], ["b"], calls, imports))
    made.functions.append(
        helper.make_function("local", "F40", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], imports)
    )
    with pytest.raises(mace.errors.UnsupportedModelError, match="function 'F0'"):
        mace.Session(made.SerializeToString(), devices=["reference"])


def test_an_output_declared_with_another_type_than_is_computed_is_refused() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"], name="rectify")],
        "mistyped",
        [info("x", TensorProto.FLOAT, [2])],
        [info("y", TensorProto.INT64, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    declared = r"'y' is declared as int64, but node 'rectify' \(Relu\) computes float32"
    with pytest.raises(ModelError, match=declared), mace.Session(model, devices=["reference"]) as session:
        session.run({"x": np.zeros(2, np.float32)})
