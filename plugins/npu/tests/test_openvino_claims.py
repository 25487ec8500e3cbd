"""What is handed to OpenVINO although its types are narrow, and what is not although OpenVINO takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from mace_core.provider import Device
from mace_core.session import Session

Array = npt.NDArray[Any]

COUNT = 500


def model(nodes: list[onnx.NodeProto], inputs: dict[str, Array], output: int, opset: int = 18) -> onnx.ModelProto:
    types = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    graph = helper.make_graph(nodes, "claims", types, [helper.make_tensor_value_info("y", output, None)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.mark.parametrize(
    ("op_type", "attributes", "right"),
    [
        ("Max", {}, np.maximum),
        ("Min", {}, np.minimum),
        ("BitwiseAnd", {}, np.bitwise_and),
        ("BitwiseOr", {}, np.bitwise_or),
        ("BitwiseXor", {}, np.bitwise_xor),
        ("Mod", {}, np.mod),
        ("Mod", {"fmod": 1}, np.fmod),
        ("Div", {}, lambda left, right: np.trunc(left / right.astype(np.float64)).astype(left.dtype)),
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_narrow_integers_whose_results_fit_are_exact(
    device: Device, op_type: str, attributes: dict[str, int], right: Callable[[Array, Array], Array], dtype: Any
) -> None:
    limits, random = np.iinfo(dtype), np.random.default_rng(5)
    feeds = {name: random.integers(limits.min, limits.max + 1, COUNT).astype(dtype) for name in ("a", "b")}
    feeds["a"][:2], feeds["b"][:2] = (limits.max, limits.min), (limits.max, 1)
    if op_type in ("Mod", "Div"):
        feeds["b"] = np.where(np.isin(feeds["b"], (0, -1) if limits.min else (0,)), 3, feeds["b"]).astype(dtype)
    node = helper.make_node(op_type, ["a", "b"], ["y"], **attributes)
    made = model([node], feeds, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    with Session(made, devices=[device.qualified_name], strict=True, cache=False) as session:
        np.testing.assert_array_equal(session.run(feeds)["y"], right(feeds["a"], feeds["b"]))


def reasons_for(device: Device, made: onnx.ModelProto, feeds: dict[str, Array]) -> tuple[Array, str]:
    with Session(made, devices=[device.qualified_name, "cpu"], cache=False) as session:
        return session.run(feeds)["y"], str(session.explain())


def test_a_maximum_of_infinities_that_is_compared_is_declined(device: Device) -> None:
    feeds = {"x": np.array([[-np.inf, -np.inf], [1, -np.inf]], np.float32)}
    nodes = [
        helper.make_node("ReduceMax", ["x", "axes"], ["greatest"], keepdims=0),
        helper.make_node("Unsqueeze", ["greatest", "axes"], ["spread"]),
        helper.make_node("IsInf", ["spread"], ["y"]),
    ]
    made = model(nodes, feeds, TensorProto.BOOL)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "axes"))
    found, placement = reasons_for(device, made, feeds)
    np.testing.assert_array_equal(found, [[True], [False]])
    assert "the result is compared" in placement


def test_rounding_by_a_computed_scale_is_declined(device: Device) -> None:
    feeds = {"x": np.array([0, 2, -3, -2.5, 1.34, 0.5], np.float32), "range": np.array(5, np.float32)}
    nodes = [
        helper.make_node("Div", ["range", "steps"], ["scale"]),
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"]),
    ]
    made = model(nodes, feeds, TensorProto.UINT8)
    for name, value in (("steps", np.float32(255)), ("zero", np.uint8(153))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    found, placement = reasons_for(device, made, feeds)
    np.testing.assert_array_equal(found, [153, 255, 0, 26, 221, 179])
    assert "where the scale is computed" in placement
