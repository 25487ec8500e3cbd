"""Scales and zero points with which no number has a meaning: refused when the model is opened, with the node's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import ModelError


def model(op: str, scale: Any, zero: Any) -> onnx.ModelProto:
    stored, real = (TensorProto.UINT8, TensorProto.FLOAT)
    given, result = (real, stored) if op == "QuantizeLinear" else (stored, real)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "scale", "zero"], ["y"], name="the node", axis=0)],
        "encoding",
        [helper.make_tensor_value_info("x", given, [2])],
        [helper.make_tensor_value_info("y", result, [2])],
        [numpy_helper.from_array(np.asarray(scale, np.float32), "scale"), numpy_helper.from_array(zero, "zero")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, -np.inf, np.nan, [1.0, 0.0], [0.5, -0.5]])
def test_scales_that_are_no_positive_numbers(op: str, scale: Any) -> None:
    zero = np.zeros(np.shape(scale), np.uint8)
    with pytest.raises(ModelError, match=r"'the node'.*a scale is a positive finite number, not"):
        Session(model(op, scale, zero), cache=False)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_zero_points_of_types_that_are_not_stored(op: str, dtype: Any) -> None:
    with pytest.raises(ModelError, match="'the node'"):
        Session(model(op, 1.0, np.zeros((), dtype)), cache=False)


def test_good_ones_are_taken() -> None:
    with Session(model("DequantizeLinear", [0.5, 2.0], np.array([1, 0], np.uint8)), cache=False) as session:
        np.testing.assert_array_equal(session.run({"x": np.array([3, 3], np.uint8)})["y"], [1, 6])
