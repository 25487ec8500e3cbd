"""Inputs that a model has defaults for: initializers that are listed among its inputs too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import InputError, ModelError
from mace_core.frontend import load_model
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Graph
from mace_core.graph.compare import graph_difference
from mace_core.graph.serialize import dump_graph, load_graph
from mace_core.session import Session

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)
FACTOR = np.float32([2.0])
X = np.ones((4, 2), np.float32)


def layer(ir_version: int = 8, *, rows: Any = 2) -> onnx.ModelProto:
    """y = (x @ w) * -factor, where w and factor have defaults; the negation of a default can be folded."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Neg", ["factor"], ["negative"]),
        helper.make_node("Mul", ["product", "negative"], ["y"]),
    ]
    inputs = [
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [rows, 3]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
        helper.make_tensor_value_info("factor", TensorProto.FLOAT, [1]),
    ]
    graph = helper.make_graph(
        nodes,
        "layer",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(FACTOR, "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=ir_version)


def expected(weights: np.ndarray = WEIGHTS, factor: np.ndarray = FACTOR) -> np.ndarray:
    return (X @ weights) * -factor


@pytest.fixture(params=["path", "bytes", "memory", "proto", "graph"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = layer()
    match request.param:
        case "path":
            (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
            return tmp_path / "m.onnx"
        case "bytes":
            return made.SerializeToString()
        case "memory":
            return bytearray(made.SerializeToString())
        case "graph":
            return load_model(made)
        case _:
            return made


@pytest.mark.parametrize("cache", [False, True])
def test_defaults_hold_until_a_value_is_fed(model: Any, cache: bool) -> None:
    other = WEIGHTS[::-1].copy()
    with Session(model, cache=cache) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected())
        np.testing.assert_array_equal(session.run({"x": X, "w": other})["y"], expected(other))
        np.testing.assert_array_equal(session.run({"x": X, "factor": -FACTOR})["y"], expected(factor=-FACTOR))
        np.testing.assert_array_equal(
            session.run({"x": X, "w": other, "factor": -FACTOR})["y"], expected(other, -FACTOR)
        )
        np.testing.assert_array_equal(session.run({"x": X}, ["y"])["y"], expected())


def test_a_second_session_finds_the_defaults_in_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(layer().SerializeToString())
    for _ in range(2):
        with Session(path) as session:
            assert [spec.name for spec in session.inputs if spec.optional] == ["w", "factor"]
            np.testing.assert_array_equal(session.run({"x": X, "factor": FACTOR * 3})["y"], expected(factor=FACTOR * 3))


def test_inputs_say_which_are_optional() -> None:
    with Session(layer(), cache=False) as session:
        assert [(spec.name, spec.optional) for spec in session.inputs] == [
            ("x", False),
            ("w", True),
            ("factor", True),
        ]
        assert str(session.inputs[1]) == "w: float32[2, 3] (optional)"


def test_defaults_that_nobody_feeds_are_constants_like_all_others() -> None:
    with Session(layer(), cache=False) as session:
        assert [node.op_type for node in session._graph.nodes] == ["MatMul", "Mul"]  # the negation is folded
        session.run({"x": X})
        assert session._optional is not None and not session._optional._variants


def test_values_that_do_not_fit_are_refused() -> None:
    with Session(layer(), cache=False) as session:
        for wrong in (WEIGHTS.astype(np.float64), WEIGHTS[:1], None):
            with pytest.raises(InputError, match="'w'"):
                session.run({"x": X, "w": wrong})
        with pytest.raises(InputError, match="'x'"):
            session.run({"w": WEIGHTS})
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected())


def test_a_default_may_be_fed_in_another_size_where_the_model_leaves_it_free() -> None:
    made = layer(rows="k")
    made.graph.input[1].type.tensor_type.shape.dim[1].dim_param = "k"
    with Session(made, cache=False) as session:
        long = np.ones((4, 5), np.float32)
        weights = np.full((5, 3), 0.5, np.float32)
        np.testing.assert_array_equal(session.run({"x": long, "w": weights})["y"], (long @ weights) * -FACTOR)


def test_before_version_4_initializers_are_constants() -> None:
    """There, every initializer had to be listed among the inputs."""
    with Session(layer(ir_version=3), cache=False) as session:
        assert [(spec.name, spec.optional) for spec in session.inputs] == [("x", False)]
        with pytest.raises(InputError, match="no input 'w'"):
            session.run({"x": X, "w": WEIGHTS})


def test_shapes_may_be_asked_for_optional_inputs() -> None:
    with Session(layer(), cache=False) as session:
        session.prepare({"x": (4, 2), "factor": (1,)})
        assert {node.op for node in session.explain({"x": (4, 2), "factor": (1,)}).nodes} >= {"Neg"}
        assert "Neg" not in {node.op for node in session.explain({"x": (4, 2)}).nodes}


def test_a_file_that_changed_meanwhile_is_not_mixed_with_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(layer().SerializeToString())
    with Session(path, cache=False) as session:
        changed = layer()
        changed.graph.name = "another"
        path.write_bytes(changed.SerializeToString())
        os.utime(path, ns=(0, 0))
        with pytest.raises(ModelError, match="has changed since the session was opened"):
            session.run({"x": X, "w": WEIGHTS})
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected())


def test_only_so_many_sets_of_fed_defaults_are_kept() -> None:
    names = [f"d{i}" for i in range(10)]
    nodes = [helper.make_node("Sum", ["x", *names], ["y"])]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", *names)]
    graph = helper.make_graph(nodes, "sum", infos, [helper.make_tensor_value_info("y", 1, [1])])
    graph.initializer.extend(numpy_helper.from_array(np.ones(1, np.float32), name) for name in names)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with Session(made, cache=False) as session:
        for name in (*names, names[0]):
            assert session.run({"x": np.zeros(1, np.float32), name: np.float32([5])})["y"] == 14
        assert session._optional is not None and len(session._optional._variants) <= 8


def test_a_default_that_contradicts_its_input_is_refused() -> None:
    made = layer(rows=7)
    with pytest.raises(ModelError, match=r"'w' is float32\[7, 3\], and its default is float32\[2, 3\]"):
        load_model(made)


@pytest.mark.parametrize("again", [lambda g: load_graph(dump_graph(g)), lambda g: load_model(to_onnx(g))])
def test_defaults_survive_being_stored_and_exported(again: Any) -> None:
    graph: Graph = load_model(layer())
    assert set(graph.defaults) == {"w", "factor"}
    assert graph_difference(graph, again(graph)) is None
    assert again(graph).defaults == graph.defaults
