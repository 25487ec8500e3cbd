"""Tree ensembles run in a kernel of their own: every row walks down every tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.session import Session

ort = pytest.importorskip("onnxruntime")

Array = npt.NDArray[Any]
ML, FEATURES = "ai.onnx.ml", 9
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def grown(trees: int, depth: int, targets: int, modes: tuple[str, ...], seed: int = 0) -> dict[str, list[Any]]:
    """Full trees, whose leaves each say something of one or two targets; NaN goes either way."""
    random = np.random.default_rng(seed)
    found: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    }
    found["nodes_missing_value_tracks_true"] = []
    leaves: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        for node in range(2 ** (depth + 1) - 1):
            is_leaf = node >= 2**depth - 1
            row = (
                *(tree, node, int(random.integers(FEATURES)), "LEAF" if is_leaf else str(random.choice(modes))),
                *(float(np.float32(random.normal())), 0 if is_leaf else 2 * node + 1, 0 if is_leaf else 2 * node + 2),
                int(random.integers(2)),
            )
            for column, value in zip(found.values(), row, strict=True):
                column.append(value)
            for target in sorted({int(t) for t in random.integers(targets, size=2)}) if is_leaf else ():
                for name, value in zip(leaves, (tree, node, target, float(random.normal())), strict=True):
                    leaves[name].append(value)
    return {**found, **leaves}


def model(op: str, dtype: str, outputs: list[str], trees: dict[str, Any], **attributes: Any) -> onnx.ModelProto:
    """One node; any number of rows."""
    prefix = "class" if op == "TreeEnsembleClassifier" else "target"
    named = {name if name.startswith("nodes_") else f"{prefix}_{name}": value for name, value in trees.items()}
    node = helper.make_node(op, ["x"], outputs, domain=ML, name="trees", **named, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TYPES[dtype], ["rows", FEATURES])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def rows(count: int, dtype: str) -> Array:
    """Features, one in ten of them missing."""
    random = np.random.default_rng(count)
    found = random.normal(size=(count, FEATURES))
    found[random.random(found.shape) < 0.1] = np.nan
    return found.astype(dtype)


def compared(proto: onnx.ModelProto, dtype: str) -> list[str]:
    """Numbers of rows below, at and above a block's, beside onnxruntime; the operators that ran."""
    judge = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with Session(proto, devices=["cpu"], options={"cpu": {"threads": 2}}, strict=True, cache=False) as session:
        for count in (1, 64, 65, 1000):
            x = rows(count, dtype)
            for got, wanted in zip(session.run({"x": x}).values(), judge.run(None, {"x": x}), strict=True):
                assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
        return [entry.op for entry in session.explain().nodes]


@pytest.mark.parametrize(
    ("modes", "function", "dtype"),
    [
        (("BRANCH_LEQ",), "SUM", "float32"),
        (("BRANCH_LT",), "AVERAGE", "float64"),
        (("BRANCH_GTE", "BRANCH_GT", "BRANCH_LEQ"), "MIN", "float32"),
        pytest.param(("BRANCH_LEQ",), "MAX", "float32", marks=pytest.mark.full),
        pytest.param(("BRANCH_NEQ", "BRANCH_EQ", "BRANCH_LT"), "SUM", "float64", marks=pytest.mark.full),
    ],
)
def test_regressions_are_one_step(modes: tuple[str, ...], function: str, dtype: str) -> None:
    trees = grown(12, 5, 1, modes)
    proto = model(
        "TreeEnsembleRegressor", dtype, ["y"], trees, n_targets=1, aggregate_function=function, base_values=[0.5]
    )
    assert compared(proto, dtype) == [f"{ML}.TreeEnsembleRegressor"]
    many = model("TreeEnsembleRegressor", dtype, ["y"], grown(7, 4, 3, modes), n_targets=3, aggregate_function=function)
    assert compared(many, dtype) == [f"{ML}.TreeEnsembleRegressor"]


@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.full), 4])
def test_classes_are_chosen_from_the_scores_of_the_kernel(classes: int) -> None:
    trees = grown(20, 5, classes, ("BRANCH_LEQ",))
    labels = {"classlabels_int64s": list(range(classes)), "post_transform": "SOFTMAX"}
    ran = compared(model("TreeEnsembleClassifier", "float32", ["label", "p"], trees, **labels), "float32")
    assert f"{ML}.TreeEnsembleRegressor" in ran
    assert not {"GatherElements", "IsNaN"} & set(ran)  # nothing walks by operators of the standard


def numbered(dtype: str, transform: int = 0) -> onnx.ModelProto:
    """A stump of two targets as a node of TreeEnsemble."""
    content = {name: np.array(values, dtype) for name, values in {"splits": [0.25], "leaves": [1.5, -2.0]}.items()}
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["y"], domain=ML, name="trees", n_targets=2, tree_roots=[0], post_transform=transform,
        nodes_featureids=[4], nodes_modes=numpy_helper.from_array(np.array([1], np.uint8)),
        nodes_splits=numpy_helper.from_array(content["splits"]), leaf_targetids=[0, 1],
        leaf_weights=numpy_helper.from_array(content["leaves"]),
        nodes_truenodeids=[0], nodes_trueleafs=[1], nodes_falsenodeids=[1], nodes_falseleafs=[1],
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TYPES[dtype], ["rows", FEATURES])],
        [helper.make_tensor_value_info("y", TYPES[dtype], ["rows", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(ML, 5)], ir_version=10)


@pytest.mark.parametrize(("dtype", "transform"), [("float64", 0), ("float32", 1)])
def test_the_newer_form(dtype: str, transform: int) -> None:
    x = rows(100, dtype)
    goes = x[:, 4] < np.array(0.25, dtype)
    expected = np.where(goes[:, None], [1.5, 0.0], [0.0, -2.0])
    if transform:
        powers = np.exp(expected)
        expected = powers / powers.sum(1, keepdims=True)
    with Session(numbered(dtype, transform), devices=["cpu"], strict=True, cache=False) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-6)
        assert f"{ML}.TreeEnsemble" in [entry.op for entry in session.explain().nodes]
