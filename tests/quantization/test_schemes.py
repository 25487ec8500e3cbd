"""Schemes without calibration: narrower floats, dynamic ranges, weights in few bits."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import UsageError
from mace_core.quantization import Settings, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples, sqnr_db

LEAST_DB = {"int4-weight": 15, "fp16": 55, "bf16": 35, "dynamic": 35}


def by_onnxruntime(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


@pytest.mark.parametrize("scheme", LEAST_DB)
def test_results_are_near_those_of_the_float_model(tmp_path: Path, scheme: str) -> None:
    model, path = residual_network(), tmp_path / "small.onnx"
    x = samples(1)[0]
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    quantize(model, path, settings=Settings(scheme))
    onnx.checker.check_model(str(path), full_check=True)
    assert sqnr_db(Session(str(path)).run({"x": x})["y"], wanted) > LEAST_DB[scheme]
    if scheme != "bf16":  # onnxruntime's CPU kernels do not take it
        assert sqnr_db(by_onnxruntime(path, {"x": x}), wanted) > LEAST_DB[scheme]


def linear(inner: int, results: int, seed: int = 0) -> onnx.ModelProto:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((inner, results), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", results])],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    ("granularity", "scales"), [("", (4, 24)), ("block:64", (2, 24)), ("channel", (24,)), ("tensor", ())]
)
def test_four_bits_take_an_eighth_and_are_grouped_as_asked(
    tmp_path: Path, granularity: str, scales: tuple[int, ...]
) -> None:
    path = tmp_path / "four.onnx"
    quantize(linear(128, 24), path, settings=Settings("int4-weight", granularity=granularity))
    constants = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    assert constants["w_quantized"].data_type == TensorProto.INT4
    assert len(constants["w_quantized"].raw_data) == 128 * 24 // 2
    assert tuple(constants["w_scale"].dims) == scales


def test_onnxruntime_keeps_four_bits_packed(tmp_path: Path) -> None:
    quantize(linear(128, 32), tmp_path / "four.onnx", settings=Settings("int4-weight"))
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    ort.InferenceSession(str(tmp_path / "four.onnx"), options, providers=["CPUExecutionProvider"])
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ops["MatMulNBits"] == 1


def test_inputs_and_outputs_of_narrow_floats_keep_their_types(tmp_path: Path) -> None:
    quantize(residual_network(), tmp_path / "half.onnx", settings=Settings("fp16"))
    graph = onnx.load(tmp_path / "half.onnx").graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
    assert {tensor.data_type for tensor in graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}


def test_constants_beyond_the_range_of_float16_become_its_ends_and_are_told(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "mask"], ["y"], name="sum")],
        "masked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array([-1e9, 0], np.float32), "mask")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found = quantize(model, tmp_path / "half.onnx", settings=Settings("fp16"))
    assert "'mask'" in found.notes[0]
    result = Session(str(tmp_path / "half.onnx")).run({"x": np.ones(2, np.float32)})["y"]
    np.testing.assert_array_equal(result, [-65504, 1])


def test_graphs_of_control_flow_stay_in_float_and_still_read_what_was_converted(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["doubled"], [f"{name}_y"], name=f"{name} {op}")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [3])])

    branches = {"then_branch": branch("then", "Relu"), "else_branch": branch("else", "Neg")}
    inputs = {"x": (TensorProto.FLOAT, [3]), "c": (TensorProto.BOOL, [])}
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["doubled"], name="double"),
            helper.make_node("If", ["c"], ["y"], name="choice", **branches),
        ],
        "choosing",
        [helper.make_tensor_value_info(name, *type) for name, type in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found = quantize(model, tmp_path / "half.onnx", settings=Settings("fp16"))
    assert found.nodes == ["double"] and "control flow" in found.floats["choice"]
    onnx.checker.check_model(str(tmp_path / "half.onnx"), full_check=True)
    for c, wanted in ((True, [0, 2, 4]), (False, [2, -2, -4])):
        feeds = {"x": np.array([-1, 1, 2], np.float32), "c": np.array(c)}
        np.testing.assert_array_equal(by_onnxruntime(tmp_path / "half.onnx", feeds), wanted)
        np.testing.assert_array_equal(Session(str(tmp_path / "half.onnx")).run(feeds)["y"], wanted)


def test_a_model_without_products_is_refused(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"], name="minus")],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for scheme in ("int8", "dynamic", "int4-weight"):
        with pytest.raises(UsageError, match="no node to quantize"):
            quantize(model, tmp_path / "no.onnx", data=[np.ones(2, np.float32)], settings=Settings(scheme))
    assert list(tmp_path.iterdir()) == []


def lstm(direction: str, *, layout: int = 0, op: str = "LSTM") -> onnx.ModelProto:
    """A recurrent layer of 24 elements after 12 features, any number of steps."""
    random = np.random.default_rng(3)
    directions, gates = (2 if direction == "bidirectional" else 1), {"LSTM": 4, "GRU": 3}[op]
    shapes = {"w": (directions, gates * 24, 12), "r": (directions, gates * 24, 24), "b": (directions, 2 * gates * 24)}
    constants = [numpy_helper.from_array(random.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    node = helper.make_node(
        op, ["x", "w", "r", "b"], ["y", "h"], name="cell", hidden_size=24, direction=direction, layout=layout
    )
    made = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "recurrent",
        [made("x", TensorProto.FLOAT, ["steps", 1, 12])],
        [made("y", TensorProto.FLOAT, None), made("h", TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_an_lstm_becomes_dynamic(tmp_path: Path, direction: str, granularity: str) -> None:
    """Weights of 8 bits; MACE and onnxruntime compute it, near the float model."""
    model, path = lstm(direction), tmp_path / "small.onnx"
    x = np.random.default_rng(0).normal(0, 1, (9, 1, 12)).astype(np.float32)
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    quantize(model, path, settings=Settings("dynamic", granularity=granularity))
    (node,) = onnx.load(path).graph.node
    assert (node.domain, node.op_type) == ("com.microsoft", "DynamicQuantizeLSTM")
    assert sqnr_db(Session(str(path)).run({"x": x})["y"], wanted) > LEAST_DB["dynamic"]
    assert sqnr_db(by_onnxruntime(path, {"x": x}), wanted) > LEAST_DB["dynamic"]


def test_other_recurrent_layers_stay_in_float_with_a_reason(tmp_path: Path) -> None:
    for model, words in ((lstm("forward", op="GRU"), "no GRU of integers"), (lstm("forward", layout=1), "outermost")):
        with pytest.raises(UsageError, match=words):
            quantize(model, tmp_path / "small.onnx", settings=Settings("dynamic"))
