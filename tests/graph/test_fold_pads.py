"""A Pad of zeros before a Conv becomes part of it; any other stays, and the results are the same either way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from mace_core import Session
from mace_core.frontend.load import load_model
from mace_core.optimizer import optimize

X = np.random.default_rng(0).standard_normal((1, 2, 7, 6)).astype(np.float32)
SPATIAL = [0, 0, 1, 2, 0, 0, 3, 0]


def model(
    pads: list[int], *, opset: int = 17, value: float | None = None, conv: dict[str, Any] | None = None, **pad: Any
) -> onnx.ModelProto:
    weights = np.random.default_rng(1).standard_normal((3, 2, 3, 3)).astype(np.float32)
    constants = {"w": weights}
    inputs = ["x"]
    if opset < 11:
        pad["pads"] = pads
        if value is not None:
            pad["value"] = value
    else:
        constants["pads"] = np.array(pads, np.int64)
        inputs.append("pads")
        if value is not None:
            constants["value"] = np.array(value, np.float32)
            inputs.append("value")
    nodes = [
        helper.make_node("Pad", inputs, ["p"], name="pad", **pad),
        helper.make_node("Conv", ["p", "w"], ["y"], name="conv", **(conv or {})),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def check(made: onnx.ModelProto, *, folds: bool) -> None:
    graph = load_model(made)
    optimize(graph)
    assert ("Pad" not in [node.op_type for node in graph.nodes]) is folds
    right = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    with Session(made, cache=False) as session:
        found = session.run({"x": X})
    for name, expected in zip([o.name for o in right.get_outputs()], right.run(None, {"x": X}), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [10, 13, 18])
@pytest.mark.parametrize("value", [None, 0.0])
@pytest.mark.parametrize(
    "conv", [{}, {"pads": [2, 0, 1, 1]}, {"strides": [2, 2], "dilations": [2, 1], "auto_pad": "NOTSET"}]
)
def test_zeros_along_spatial_axes_are_folded(opset: int, value: float | None, conv: dict[str, Any]) -> None:
    check(model(SPATIAL, opset=opset, value=value, conv=conv), folds=True)


def test_zeros_around_channels_stay() -> None:
    made = model([0, 1, 0, 0, 0, 0, 0, 0])
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), "w"))
    check(made, folds=False)


@pytest.mark.parametrize(
    "made",
    [
        model(SPATIAL, value=1.0),
        model(SPATIAL, mode="edge"),
        model([0, 0, -1, 0, 0, 0, 1, 0]),
        model(SPATIAL, conv={"auto_pad": "SAME_UPPER"}),
    ],
    ids=["another value", "another mode", "cropping", "automatic padding"],
)
def test_what_a_convolution_does_not_do_stays(made: onnx.ModelProto) -> None:
    check(made, folds=False)


def test_a_padded_value_that_others_read_stays() -> None:
    made = model(SPATIAL)
    made.graph.output.append(helper.make_tensor_value_info("p", 1, None))
    check(made, folds=False)
    made = model(SPATIAL)
    made.graph.node.append(helper.make_node("Relu", ["p"], ["r"]))
    made.graph.output.append(helper.make_tensor_value_info("r", 1, None))
    check(made, folds=False)


def quantized(*, step: float = 0.05, behind: float = 0.05) -> onnx.ModelProto:
    """A quantized Pad and a quantized Conv: ``step`` and ``behind`` are the scales before and behind the Pad."""
    weights = np.random.default_rng(1).integers(-9, 9, (3, 2, 3, 3)).astype(np.int8)
    constants = {
        "a": np.float32(step), "b": np.float32(behind), "zero": np.int8(5), "pads": np.array(SPATIAL), "w": weights,
        "ws": np.float32(0.1), "wz": np.int8(0),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "a", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "a", "zero"], ["d"]),
        helper.make_node("Pad", ["d", "pads"], ["p"], name="pad"),
        helper.make_node("QuantizeLinear", ["p", "b", "zero"], ["pq"]),
        helper.make_node("DequantizeLinear", ["pq", "b", "zero"], ["pd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["pd", "wd"], ["y"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_rounding_between_pad_and_conv_that_changes_nothing_does_not_matter() -> None:
    check(quantized(), folds=True)


def test_rounding_to_other_steps_stays() -> None:
    check(quantized(behind=0.3), folds=False)


def test_padded_numbers_that_somebody_else_reads_stay() -> None:
    made = quantized()
    made.graph.output.append(helper.make_tensor_value_info("pq", 3, None))
    check(made, folds=False)
