"""Faults of onnx.reference that the reference provider steers around."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import mace_core as mace


@pytest.mark.parametrize("opset", [7, 9, 13, 15])
def test_batch_normalization_means_inference_in_every_opset(opset: int) -> None:
    names = ["x", "scale", "bias", "mean", "variance"]
    node = helper.make_node("BatchNormalization", names, ["y"], epsilon=1e-3)
    shapes = [[2, 3, 4], [3], [3], [3], [3]]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3, 4])
    graph = helper.make_graph([node], "normalize", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    rng = np.random.default_rng(0)
    feeds = {n: rng.uniform(0.5, 2, s).astype(np.float32) for n, s in zip(names, shapes, strict=True)}
    x, scale, bias, mean, variance = (feeds[n] if n == "x" else feeds[n][:, None] for n in names)
    with mace.Session(model, devices=["reference"]) as session:
        found = session.run(feeds)["y"]
    np.testing.assert_allclose(found, (x - mean) / np.sqrt(variance + 1e-3) * scale + bias, rtol=1e-5)
