"""What one node may compute is bounded while planning, for every operator whose work its shapes tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import ModelError, UsageError

F32 = TensorProto.FLOAT


def one_node(op: str, shapes: list[list[int]], **attributes: Any) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node(op, names, ["y"], name="n", **attributes)
    inputs = [helper.make_tensor_value_info(name, F32, shape) for name, shape in zip(names, shapes, strict=True)]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


BIG = {
    "Einsum": one_node("Einsum", [[4000, 4000], [4000, 4000, 4000]], equation="ab,cde->ace"),
    "MatMul": one_node("MatMul", [[1 << 20, 1 << 14], [1 << 14, 1 << 20]]),
    "Attention": one_node("Attention", [[1, 64, 1 << 20, 64]] * 3),
    "Conv": one_node("Conv", [[1, 4096, 4096, 4096], [4096, 4096, 3, 3]]),
    "MaxPool": one_node("MaxPool", [[1, 1, 1 << 13, 1 << 13]], kernel_shape=[1 << 13, 1 << 13], auto_pad="SAME_UPPER"),
}


@pytest.mark.parametrize("name", BIG)
def test_a_node_that_would_compute_for_hours_is_refused_while_planning(name: str) -> None:
    with pytest.raises(ModelError, match=rf"node 'n' \({name}\).* operations, more than .*MACE_WORK_LIMIT allows more"):
        Session(BIG[name], cache=False)


def test_the_limit_can_be_lowered_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    model = one_node("MatMul", [[8, 8], [8, 8]])
    monkeypatch.setenv("MACE_WORK_LIMIT", "500")
    with pytest.raises(ModelError, match=r"5\.1e\+02 operations, more than the 5\.0e\+02"):
        Session(model, cache=False)
    monkeypatch.setenv("MACE_WORK_LIMIT", "1e3")
    with Session(model, cache=False) as session:
        ones = np.ones((8, 8), np.float32)
        np.testing.assert_array_equal(session.run({"x0": ones, "x1": ones})["y"], ones @ ones)


def test_a_stored_plan_does_not_evade_a_lower_limit(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(one_node("MatMul", [[8, 8], [8, 8]]), path)
    Session(path).close()
    monkeypatch.setenv("MACE_WORK_LIMIT", "500")
    with pytest.raises(ModelError, match="MACE_WORK_LIMIT"):
        Session(path)


@pytest.mark.parametrize("value", ["many", "0", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_WORK_LIMIT", value)
    with pytest.raises(UsageError, match="MACE_WORK_LIMIT must be a positive number"):
        Session(one_node("MatMul", [[8, 8], [8, 8]]), cache=False)
