"""Weights in fewer bytes: the numbers that a session computes with are those of the original, rounded as it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.package.weight_forms import store_weights_as
from mace_core.storing import store_model

pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")

Array = npt.NDArray[Any]


def product(weights: Array, *, gemm: bool = False) -> onnx.ModelProto:
    """``y = x @ w`` (or of the transposed weights), x[n, k]."""
    node = (
        helper.make_node("Gemm", ["x", "w"], ["y"], transB=1) if gemm else helper.make_node("MatMul", ["x", "w"], ["y"])
    )
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("x", "y")]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def computed_weights(model: onnx.ModelProto, form: str, folder: Path) -> tuple[Array, int]:
    """The weights that a session of a package multiplies with, and the size of the package."""
    size = store_model(model, folder / "model.mace", weights=form)
    with Session(folder / "model.mace", devices=["cpu"]) as session:
        rows = numpy_helper.to_array(model.graph.initializer[0]).shape[
            1 if model.graph.node[0].op_type == "Gemm" else 0
        ]
        found = session.run({"x": np.eye(rows, dtype=np.float32)})["y"]
    return found, size


@pytest.mark.parametrize(("form", "dtype"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_narrow_floats_are_the_nearest_ones(form: str, dtype: Any, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((64, 48)).astype(np.float32)
    found, size = computed_weights(product(weights), form, tmp_path)
    np.testing.assert_array_equal(found, weights.astype(dtype).astype(np.float32))
    _, whole = computed_weights(product(weights), "", tmp_path)
    assert size < whole - 64 * 48 * 2 + 2048


@pytest.mark.parametrize("gemm", [False, True])
def test_integers_are_the_nearest_step_of_each_channel(gemm: bool, tmp_path: Path) -> None:
    weights = np.random.default_rng(1).standard_normal((128, 64)).astype(np.float32)
    weights[:, 5] *= 100
    weights[:, 7] = 0
    found, size = computed_weights(product(weights.T.copy() if gemm else weights, gemm=gemm), "int8", tmp_path)
    step = np.abs(weights).max(axis=0) / 127
    assert (np.abs(found - weights) <= step / 2 * 1.001).all()
    assert len(np.unique(found[:, 0])) > 20
    assert size < 128 * 64 * 2


@pytest.mark.parametrize("form", ["float16", "int8"])
def test_numbers_that_the_form_does_not_have_keep_theirs(form: str) -> None:
    weights = np.ones((128, 64), np.float32)
    weights[3, 4] = 1e6 if form == "float16" else np.inf
    graph = load_model(product(weights))
    kept = store_weights_as(graph, form)
    assert list(kept) == ["w"]
    assert graph.computed == []
    constant = graph.initializers["w"].constant
    assert constant is not None
    np.testing.assert_array_equal(constant.numpy(), weights)


def test_weights_inside_of_branches_are_stored_too(tmp_path: Path) -> None:
    """And computed with as rounded, whichever branch runs."""
    random = np.random.default_rng(2)
    branches = {}
    for name in ("then", "else"):
        weights = random.standard_normal((32, 16)).astype(np.float32)
        body = helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w_{name}"], [f"y_{name}"], name=f"product_{name}")],
            name,
            [],
            [helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, ["n", 16])],
            [numpy_helper.from_array(weights, f"w_{name}")],
        )
        branches[name] = (weights, body)
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches["then"][1], else_branch=branches["else"][1])
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16]),
    ]
    graph = helper.make_graph([node], "branches", ends[:2], ends[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    store_model(model, tmp_path / "model.mace", weights="float16")
    assert len(load_model(tmp_path / "model.mace").computed) == 2
    with Session(tmp_path / "model.mace", devices=["cpu"]) as session:
        for name, chosen in (("then", True), ("else", False)):
            found = session.run({"x": np.eye(32, dtype=np.float32), "c": np.array(chosen)})["y"]
            np.testing.assert_array_equal(found, branches[name][0].astype(np.float16).astype(np.float32))


def test_small_and_shared_weights_keep_their_form() -> None:
    graph = load_model(product(np.ones((8, 8), np.float32)))
    assert store_weights_as(graph, "float16") == {}
    assert graph.computed == []


def test_a_form_that_there_is_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="weights are stored as float16, bfloat16, int8 or as they are, not as 'int4'"):
        store_model(product(np.ones((64, 64), np.float32)), tmp_path / "model.mace", weights="int4")
    with pytest.raises(UsageError, match=r"ends in \.mace"):
        store_model(product(np.ones((64, 64), np.float32)), tmp_path / "model.onnx")
