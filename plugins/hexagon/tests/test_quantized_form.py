"""Quantized operators (QLinearConv, QGemm, …), as onnxruntime's QOperator format has them, run as integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hexagon_support import onnxruntime_outputs, quantized, small_network
from onnx import TensorProto, helper, numpy_helper

from mace_core.session import Session

pytestmark = pytest.mark.usefixtures("library_folder")

MS = "com.microsoft"


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_network_of_quantized_operators_runs_wholly_on_the_device(tmp_path: Path, per_channel: bool) -> None:
    from onnxruntime.quantization import QuantFormat

    random = np.random.default_rng(1)
    samples = [random.standard_normal((1, 3, 20, 18)).astype(np.float32) for _ in range(3)]
    path = quantized(
        small_network(), tmp_path, samples, quant_format=QuantFormat.QOperator, per_channel=per_channel
    )  # fmt: skip
    made = onnx.load(path)
    assert {"QLinearConv", "QLinearAdd", "QGemm", "MaxPool"} <= {node.op_type for node in made.graph.node}
    step = max(
        float(numpy_helper.to_array(array)) for array in made.graph.initializer
        if array.name in {node.input[1] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    )  # fmt: skip
    expected = onnxruntime_outputs(str(path), {"x": samples[0]})[0]
    with Session(path, devices=["hexagon:v75", "cpu"], cache=False) as session:
        found = np.asarray(next(iter(session.run({"x": samples[0]}).values())))
        explanation = session.explain()
    assert set(explanation.nodes_per_device) == {"hexagon:v75"}
    assert np.abs(found - expected).max() <= 2.05 * step  # layers may round differently


def test_quantized_operators_are_within_a_step_of_onnxruntime() -> None:
    random = np.random.default_rng(2)
    scale, zero = np.float32(4 / 255), np.uint8(128)
    weights = random.integers(0, 256, (6, 5)).astype(np.uint8)
    constants = {"s": np.asarray(scale), "z": np.asarray(zero), "w": weights, "wide": np.asarray(scale * 4),
                 "unit": np.asarray(np.float32(1 / 256)), "none": np.asarray(np.uint8(0))}  # fmt: skip
    x, own, wide, unit = ["q", "s", "z"], ["s", "z"], ["wide", "z"], ["unit", "none"]
    make = helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["q"], name="enter"),
        make("QLinearMatMul", [*x, "w", *own, *wide], ["product"], name="product"),
        make("QLinearAdd", [*x, *x, *wide], ["sum"], name="sum", domain=MS),
        make("QLinearMul", [*x, *x, *wide], ["square"], name="square", domain=MS),
        make("QLinearSigmoid", [*x, *unit], ["sigmoid"], name="sigmoid", domain=MS),
        make("QLinearLeakyRelu", [*x, *own], ["leaky"], name="leaky", domain=MS, alpha=0.2),
        make("QLinearSoftmax", [*x, *unit], ["softmax"], name="softmax", domain=MS, axis=-1, opset=17),
        make("QLinearConcat", [*own, *x, *x], ["joined"], name="joined", domain=MS, axis=1),
        make("QLinearAveragePool", [*x, *own], ["pooled"], name="pooled", domain=MS, kernel_shape=[2, 2]),
        make("QLinearGlobalAveragePool", [*x, *own], ["mean"], name="mean", domain=MS),
    ]
    results = [node.output[0] for node in nodes[1:]]
    graph = helper.make_graph(
        nodes, "quantized", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4, 6, 6))],
        [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in results],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]
    made = helper.make_model(graph, opset_imports=imports, ir_version=10)
    feeds = {"x": random.uniform(-1.9, 1.9, (1, 4, 6, 6)).astype(np.float32)}
    expected = onnxruntime_outputs(made.SerializeToString(), feeds)
    with Session(made, devices=["hexagon:v75", "cpu"], cache=False) as session:
        found = session.run(feeds)
        placed = {entry.op: entry.device for entry in session.explain().nodes if "hexagon" not in entry.device}
    assert placed == {}
    errors = {
        name: int(np.abs(np.asarray(found[name], np.int32) - array.astype(np.int32)).max())
        for name, array in zip(results, expected, strict=True)
    }
    assert {name: error for name, error in errors.items() if error > 1} == {}
