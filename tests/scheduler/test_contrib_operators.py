"""What exporters and optimizers write in the domain com.microsoft runs on the CPU provider, as onnxruntime runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import MaceError
from mace_core.session import Session

pytest.importorskip("mace_cpu", reason="needs the CPU provider")

RANDOM = np.random.default_rng(7)
DOMAIN = "com.microsoft"


def floats(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RANDOM.uniform(-1, 1, shape).astype(dtype)


def one_node(op: str, inputs: list[np.ndarray | None], outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain=DOMAIN, name="n", **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(helper.make_graph([node], "g", infos, results), opset_imports=opsets, ir_version=8)


def run(op: str, inputs: list[np.ndarray | None], outputs: int = 1, **attributes: Any) -> list[np.ndarray]:
    feeds = {f"x{i}": array for i, array in enumerate(inputs) if array is not None}
    with Session(one_node(op, inputs, outputs, **attributes), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run(feeds)
    return [found[f"y{i}"] for i in range(outputs)]


def test_packed_queries_keys_and_values_are_those_that_come_apart() -> None:
    packed = floats(2, 4, 3, 3, 5)
    apart = [np.ascontiguousarray(packed[:, :, :, i]).reshape(2, 4, 15) for i in range(3)]
    expected = run("MultiHeadAttention", [*apart], num_heads=3)[0]
    np.testing.assert_allclose(run("MultiHeadAttention", [packed], num_heads=3)[0], expected, rtol=1e-5, atol=1e-6)
    pair = np.ascontiguousarray(packed[:, :, :, 1:])
    found = run("MultiHeadAttention", [apart[0], pair], num_heads=3)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_attention_in_half_precision_is_computed_in_float32() -> None:
    parts = [floats(1, 4, 12, dtype=np.float16) for _ in range(3)]
    wide = run("MultiHeadAttention", [part.astype(np.float32) for part in parts], num_heads=2)[0]
    found = run("MultiHeadAttention", [*parts], num_heads=2)[0]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, wide, atol=2e-3)


@pytest.mark.parametrize("room", [4, 5, 9])
def test_a_token_after_a_prompt_is_the_last_row_of_the_longer_prompt(room: int) -> None:
    """The cache may have room for more; rotation, window and all."""
    rows, heads, groups, size = 5, 4, 2, 16
    query, key, value = floats(1, rows, heads * size), floats(1, rows, groups * size), floats(1, rows, groups * size)
    caches = [floats(12, size // 2), floats(12, size // 2)]
    attributes = {"num_heads": heads, "kv_num_heads": groups, "do_rotary": 1, "local_window_size": 3, "softcap": 5.0}

    def lengths(total: int) -> list[np.ndarray]:
        return [np.array([total - 1], np.int32), np.array(total, np.int32)]

    def grouped(parts: list[np.ndarray], past: list[np.ndarray], total: int) -> list[np.ndarray]:
        return run("GroupQueryAttention", [*parts, *past, *lengths(total), *caches], 3, **attributes)

    nothing = [np.zeros((1, groups, 0, size), np.float32)] * 2
    whole = grouped([query, key, value], nothing, rows)
    first = grouped([part[:, :-1] for part in (query, key, value)], nothing, rows - 1)
    past = [np.pad(present, [(0, 0), (0, 0), (0, room - present.shape[2]), (0, 0)]) for present in first[1:]]
    last = grouped([part[:, -1:] for part in (query, key, value)], past, rows)
    np.testing.assert_allclose(last[0][:, 0], whole[0][:, -1], rtol=1e-4, atol=1e-5)
    for present, expected in zip(last[1:], whole[1:], strict=True):
        assert present.shape[2] == max(room, rows)
        np.testing.assert_allclose(present[:, :, :rows], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (2, 4)])
def test_a_node_that_makes_no_sense_is_refused_in_a_sentence(shape: tuple[int, ...]) -> None:
    positions = np.zeros((1, 1), np.int64)
    with pytest.raises(MaceError, match="RotaryEmbedding"):
        run("RotaryEmbedding", [floats(*shape), positions, floats(4, 2), floats(4, 2)])


def test_a_quantized_network_saved_by_onnxruntime_after_all_optimizations_runs_here(tmp_path: Path) -> None:
    """Its convolutions and pools have their channels last."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: it optimizes the model")
    constants = {
        "w": RANDOM.integers(-9, 9, (16, 8, 3, 3)).astype(np.int8), "s": np.float32(0.05), "z": np.uint8(120),
        "wz": np.int8(0), "t": np.float32(0.5),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "s", "wz", "t", "z"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("MaxPool", ["c"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["p", "t", "z"], ["y"], name="dequantize"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 8, 12, 12])],
        [helper.make_tensor_value_info("y", 1, [1, 16, 6, 6])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    data = {"x": floats(1, 8, 12, 12)}
    expected = onnxruntime.InferenceSession(built.SerializeToString(), options, ["CPUExecutionProvider"]).run(
        None, data
    )
    assert DOMAIN in {node.domain for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    with Session(tmp_path / "optimized.onnx", devices=["cpu"], strict=True, cache=False) as session:
        found = session.run(data)["y"]
    assert np.abs(found - expected[0]).max() <= 0.5  # a step, for halves that are rounded either way
    assert np.mean(np.abs(found - expected[0]) > 1e-5) < 0.01


def test_a_model_of_contributed_operators_alone_has_bodies_of_the_newest_form() -> None:
    """It imports no version of the standard, by which the form would be chosen."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "pads"], ["y"], domain="com.microsoft", mode="constant")],
        "g",
        [info("x", TensorProto.FLOAT, [2, 3])],
        [info("y", TensorProto.FLOAT, [3, 4])],
        [helper.make_tensor("pads", TensorProto.INT64, [4], [1, 0, 0, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("com.microsoft", 1)], ir_version=8)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with Session(model, devices=["cpu"], strict=True) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], np.pad(x, [(1, 0), (0, 1)]))
