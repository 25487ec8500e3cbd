"""What of a graph is quantized, what shares an encoding, and what stays as it was."""

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
from mace_core.errors import DeviceNotFoundError
from mace_core.quantization import Settings, quantize
from mace_core.testing.network import NetworkBuilder

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples, sqnr_db


def constants(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def encoding(path: Path, value: str) -> tuple[float, int]:
    found = constants(path)
    return float(found[f"{value}_scale"]), int(found[f"{value}_zero_point"])


def test_parts_of_a_concatenation_and_what_is_moved_share_one_encoding(tmp_path: Path) -> None:
    net = NetworkBuilder("joined", (1, 3, 8, 8), seed=0)
    one, other = net.conv("x", 3, 8, 1), net.conv("x", 3, 8, 3, gain=4.0)
    joined = net.op("Concat", one, other, axis=1)
    pooled = net.op("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2])
    grown = net.op("Resize", pooled, "", net.constant(np.array([1, 1, 2, 2], np.float32)), mode="linear")
    model = net.build(net.conv(grown, 16, 4, 1), (1, 4, 8, 8))
    quantize(model, tmp_path / "q.onnx", data=samples(8, (1, 3, 8, 8)))
    found = {encoding(tmp_path / "q.onnx", value) for value in (one, other, joined, pooled, grown)}
    assert len(found) == 1


def test_a_node_between_float_nodes_is_left_in_float(tmp_path: Path) -> None:
    net = NetworkBuilder("loose", (1, 4, 8, 8), seed=0)
    y = net.conv("x", 4, 4, 1)
    y = net.op("LeakyRelu", y)  # only Erf reads it
    y = net.conv(net.op("Erf", y), 4, 4, 1)
    found = quantize(net.build(y, (1, 4, 8, 8)), tmp_path / "q.onnx", data=samples(4, (1, 4, 8, 8)))
    reasons = {name.partition("_")[0]: reason for name, reason in found.floats.items()}
    assert "what reads its result is in float" in reasons["leakyrelu"]
    assert "has no quantized form" in reasons["erf"]
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node)
    assert ops["QuantizeLinear"] == 4  # both ends of both convolutions


def test_excluded_nodes_stay_in_float_and_the_pattern_is_the_reason(tmp_path: Path) -> None:
    found = quantize(
        residual_network(), tmp_path / "q.onnx", data=samples(4), settings=Settings(exclude=("Gemm", "conv_7"))
    )
    assert "excluded by 'Gemm'" in found.floats.values()
    nodes = {node.name: node for node in onnx.load(tmp_path / "q.onnx").graph.node}
    products = {name: node.input[1] for name, node in nodes.items() if node.op_type in ("Conv", "Gemm")}
    in_float = {name for name, weights in products.items() if not weights.endswith("_DequantizeLinear_Output")}
    assert in_float == {name for name in products if name == "conv_7" or name.startswith("gemm")}


def test_shared_weights_are_stored_once(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["b"], name="between"),
            helper.make_node("MatMul", ["b", "w"], ["y"], name="second"),
        ],
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(random.standard_normal((8, 8), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    quantize(model, tmp_path / "q.onnx", data=[random.standard_normal((4, 8), np.float32) for _ in range(4)])
    names = [name for name, array in constants(tmp_path / "q.onnx").items() if array.shape == (8, 8)]
    assert names == ["w_quantized"]


def test_metadata_names_and_free_dimensions_stay(tmp_path: Path) -> None:
    model = residual_network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    model.metadata_props.add(key="classes", value="ten")
    model.doc_string = "what it is"
    quantize(model, tmp_path / "q.onnx", data=samples(4))
    written = onnx.load(tmp_path / "q.onnx")
    assert [(entry.key, entry.value) for entry in written.metadata_props] == [("classes", "ten")]
    assert written.doc_string == "what it is"
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    batch = np.concatenate(samples(3, seed=5))
    assert Session(str(tmp_path / "q.onnx")).run({"x": batch})["y"].shape == (3, 10)


def test_tables_of_embeddings_are_stored_as_integers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = random.standard_normal((300, 32), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
            helper.make_node("MatMul", ["rows", "w"], ["y"], name="product"),
        ],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(table[:32, :8].copy(), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    ids = [random.integers(0, 300, 16) for _ in range(8)]
    found = quantize(model, tmp_path / "q.onnx", data=ids)
    assert "lookup" in found.nodes
    assert constants(tmp_path / "q.onnx")["table_quantized"].dtype == np.int8
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"ids": ids[0]})[0]
    for result in (
        Session(str(tmp_path / "q.onnx")).run({"ids": ids[0]})["y"],
        ort.InferenceSession(str(tmp_path / "q.onnx")).run(None, {"ids": ids[0]})[0],
    ):
        assert sqnr_db(result, wanted) > 30


def test_older_opsets_are_raised_and_batch_normalization_is_folded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def array(name: str, *shape: int, least: float = -1.0) -> onnx.TensorProto:
        return numpy_helper.from_array(random.uniform(least, 2, shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="conv", kernel_shape=[3, 3]),
            helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["n"], name="norm"),
            helper.make_node("Mul", ["n", "s"], ["k"], name="scale"),
            helper.make_node("Add", ["k", "t"], ["y"], name="shift"),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [array("w", 8, 4, 3, 3), array("g", 8), array("b", 8), array("m", 8), array("v", 8, least=0.1),
         array("s", 8, 1, 1), array("t", 1, 8, 1, 1)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    feeds = samples(6, (1, 4, 6, 6))
    quantize(model, tmp_path / "q.onnx", data=feeds)
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node)
    assert ops["Conv"] == 1 and not {"BatchNormalization", "Mul", "Add"} & ops.keys()
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"x": feeds[0]})[0]
    assert sqnr_db(ort.InferenceSession(str(tmp_path / "q.onnx")).run(None, {"x": feeds[0]})[0], wanted) > 30


@pytest.mark.parametrize("scheme", ["int8", "a16w8"])
def test_the_hexagon_provider_takes_every_node(tmp_path: Path, scheme: str) -> None:
    quantize(residual_network(), tmp_path / "q.onnx", data=samples(8), settings=Settings(scheme))
    x = samples(1, seed=3)[0]
    wanted = Session(str(tmp_path / "q.onnx"), devices=["cpu"]).run({"x": x})["y"]
    try:
        session = Session(str(tmp_path / "q.onnx"), devices=["hexagon:v75"], strict=True)
    except DeviceNotFoundError as error:
        pytest.skip(str(error))
    assert sqnr_db(session.run({"x": x})["y"], wanted) > 38


def test_a_softmax_along_the_last_axis_of_an_older_opset_stays_one_node(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
            helper.make_node("Softmax", ["a"], ["b"], name="shares", axis=2),
            helper.make_node("MatMul", ["b", "v"], ["y"], name="mixed"),
        ],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8])],
        [numpy_helper.from_array(random.standard_normal((8, 8), np.float32), name) for name in "wv"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    feeds = samples(6, (1, 4, 8))
    quantize(model, tmp_path / "q.onnx", data=feeds)
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node)
    assert ops["Softmax"] == 1 and not ops.keys() & {"Flatten", "Reshape", "Shape"}
    assert [entry.domain for entry in onnx.load(tmp_path / "q.onnx").opset_import] == [""]
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, {"x": feeds[0]})[0]
    assert sqnr_db(ort.InferenceSession(str(tmp_path / "q.onnx")).run(None, {"x": feeds[0]})[0], wanted) > 30


def test_padding_with_infinity_stays_in_float(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((4, 4, 1, 1), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
            helper.make_node("Pad", ["a", "pads", "least"], ["b"], name="pad"),
            helper.make_node("MaxPool", ["b"], ["y"], name="pool", kernel_shape=[2, 2]),
        ],
        "padded",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
            numpy_helper.from_array(np.array(-np.inf, np.float32), "least"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    found = quantize(model, tmp_path / "q.onnx", data=samples(4, (1, 4, 5, 5)))
    assert found.nodes == ["conv"] and "not finite" in found.floats["pad"]


def test_graphs_of_control_flow_read_what_was_quantized(tmp_path: Path) -> None:
    def branch(name: str, op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["a"], [f"{name}_y"], name=f"{name} {op}")
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)]
        )

    branches = {"then_branch": branch("then", "Relu"), "else_branch": branch("else", "Neg")}
    inputs = {"x": (TensorProto.FLOAT, [1, 4, 5, 5]), "k": (TensorProto.BOOL, [])}
    weights = np.random.default_rng(0).standard_normal((4, 4, 1, 1), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
            helper.make_node("If", ["k"], ["y"], name="choice", **branches),
        ],
        "choosing",
        [helper.make_tensor_value_info(name, *type) for name, type in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 5])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = [{"x": x, "k": np.array(True)} for x in samples(5, (1, 4, 5, 5))]
    found = quantize(model, tmp_path / "q.onnx", data=feeds)
    assert found.nodes == ["conv"] and "control flow" in found.floats["choice"]
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, feeds[0])[0]
    result = ort.InferenceSession(str(tmp_path / "q.onnx")).run(None, feeds[0])[0]
    assert 30 < sqnr_db(result, wanted) < 60  # rounded: the branch reads the quantized value
