"""Weights stored as quantized numbers are floats before the first run, whatever lies between them and their reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from mace_core import Session

RNG = np.random.default_rng(3)


def quantized_conv(path: str, dtype: str, axis: int | None, transposed: bool = False) -> np.ndarray:
    """Saves a Conv whose weights come out of DequantizeLinear; returns them as floats."""
    limits = np.iinfo(dtype)
    stored = RNG.integers(limits.min, limits.max + 1, (3, 8, 3, 3) if transposed else (8, 3, 3, 3)).astype(dtype)
    shape = () if axis is None else (stored.shape[axis],)
    scale = (RNG.random(shape) / 50 + 0.01).astype(np.float32)
    zero = RNG.integers(0, 9, shape).astype(dtype)
    options = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["w"], **options)]
    if transposed:
        nodes.append(helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0, 2, 3]))
    nodes.append(helper.make_node("Conv", ["x", nodes[-1].output[0]], ["y"], pads=[1, 1, 1, 1], name="conv"))
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 12, 12])],
        [numpy_helper.from_array(a, n) for a, n in ((stored, "stored"), (scale, "scale"), (zero, "zero"))],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    lie = [1] * 4
    if axis is not None:
        lie[axis] = -1
    floats = (stored.astype(np.int32) - zero.reshape(lie)).astype(np.float32) * scale.reshape(lie)
    return floats.transpose(1, 0, 2, 3) if transposed else floats


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize(("axis", "transposed"), [(None, False), (0, False), (1, True)])
def test_a_convolution_sees_its_weights(dtype: str, axis: int | None, transposed: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "conv.onnx")
    weights = quantized_conv(path, dtype, axis, transposed)
    x = RNG.standard_normal((1, 3, 12, 12)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    right = np.einsum("nchwij,ocij->nohw", windows, weights)
    with Session(path, devices=["cpu"], strict=True) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
        steps = {span.name.split(" ")[0] for span in session.profile({"x": x}).spans}
    assert "Conv" in steps
    assert not steps & {"DequantizeLinear", "Transpose"}


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_weights_that_are_cast_scaled_and_shifted(dtype: str, tmp_path: Path) -> None:
    """The form in which some tools write quantized weights; large, so that nothing before the provider folds them."""
    path = str(tmp_path / "conv.onnx")
    limits = np.iinfo(dtype)
    stored = RNG.integers(limits.min, limits.max + 1, (256, 32, 7)).astype(dtype)
    scale, zero = np.array([0.003], np.float32), np.array([0.25], np.float32)
    nodes = [
        helper.make_node("Cast", ["stored"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 256, 34])],
        [numpy_helper.from_array(a, n) for a, n in ((stored, "stored"), (scale, "scale"), (zero, "zero"))],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), path)
    x = RNG.standard_normal((1, 32, 40)).astype(np.float32)
    right = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    with Session(path, devices=["cpu"], strict=True) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], right, rtol=1e-4, atol=1e-5 * np.abs(right).max())
        steps = {span.name.split(" ")[0] for span in session.profile({"x": x}).spans}
    assert not steps & {"Cast", "Mul", "Add", "Cast+Mul+Add"}


def test_weights_quantized_in_the_model_and_read_in_blocks(tmp_path: Path) -> None:
    """Floats, QuantizeLinear and DequantizeLinear, as training leaves them; the result is an output besides."""
    floats = (RNG.standard_normal((70, 12)) * 3).astype(np.float32)
    scale = (RNG.random((3, 12)) / 20 + 0.01).astype(np.float32)
    zero = RNG.integers(-9, 9, (3, 12)).astype(np.int8)
    blocks = {"axis": 0, "block_size": 32}
    nodes = [
        helper.make_node("QuantizeLinear", ["floats", "scale", "zero"], ["stored"], **blocks),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["w"], **blocks),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [2, 70]), ("y", [2, 12]), ("w", [70, 12]))
    ]
    constants = [numpy_helper.from_array(a, n) for a, n in ((floats, "floats"), (scale, "scale"), (zero, "zero"))]
    graph = helper.make_graph(nodes, "trained", made[:1], made[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "m.onnx")
    scales, zeros = (np.repeat(a, 32, axis=0)[:70] for a in (scale, zero.astype(np.float32)))
    weights = (np.clip(np.rint(floats / scales) + zeros, -128, 127) - zeros) * scales
    x = RNG.standard_normal((2, 70)).astype(np.float32)
    with Session(tmp_path / "m.onnx", devices=["cpu"], strict=True) as session:
        found = session.run({"x": x})
    np.testing.assert_allclose(found["w"], weights, rtol=1e-6)
    np.testing.assert_allclose(found["y"], x @ weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_users_of_one_weight_share_it(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unrolled recurrent network: every step multiplies with the same matrix, which is packed once."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    steps, size = 30, 256
    weights = (RNG.standard_normal((size, size)) / 20).astype(dtype)
    nodes = [helper.make_node("MatMul", [f"h{k}", "w"], [f"h{k + 1}"]) for k in range(steps)]
    kind = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    made = [helper.make_tensor_value_info(f"h{k}", kind, [1, size]) for k in (0, steps)]
    graph = helper.make_graph(nodes, "unrolled", made[:1], made[1:], [numpy_helper.from_array(weights, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    x = RNG.standard_normal((1, size)).astype(dtype)
    right = x
    for _ in range(steps):
        right = (right.astype(np.float32) @ weights.astype(np.float32)).astype(dtype)
    before = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    with Session(tmp_path / "m.onnx", devices=["cpu"], strict=True) as session:
        found = session.run({"h0": x})[f"h{steps}"]
    tolerance = 2e-2 if dtype == "float16" else 1e-4
    assert np.abs(found.astype(np.float64) - right).max() <= tolerance * np.abs(right).max()
    assert (tmp_path / "cache").is_dir()
    stored = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) - before
    assert stored < 10 * 4 * size * size, "thirty copies would be thrice that"


def _one_node(node: onnx.NodeProto, constants: dict[str, np.ndarray], opset: int) -> np.ndarray:
    """What comes out of a node whose inputs are constants, times one (so that there is something to run)."""
    nodes = [node, helper.make_node("DequantizeLinear", ["q", "scale"], ["w"])] if node.output[0] == "q" else [node]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*nodes, helper.make_node("Mul", ["w", "one"], ["y"])],
        "stored",
        [value("one", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    with Session(model.SerializeToString(), devices=["cpu"], strict=True, cache=False) as session:
        return session.run({"one": np.ones(1, np.float32)})["y"]


@pytest.mark.parametrize("length", [6, 7])
def test_blocks_may_lie_along_the_only_axis(length: int) -> None:
    stored, scale = np.arange(length).astype(np.int8), np.array([0.5, 2.0, 3.0], np.float32)
    block = -(-length // 3)
    node = helper.make_node("DequantizeLinear", ["stored", "scale"], ["w"], axis=0, block_size=block)
    found = _one_node(node, {"stored": stored, "scale": scale}, 21)
    np.testing.assert_array_equal(found, stored * np.repeat(scale, block)[:length])


def test_weights_are_quantized_in_the_precision_the_node_asks_for() -> None:
    floats = np.linspace(-30, 30, 4001, dtype=np.float32)
    scale = np.float32(0.37)
    node = helper.make_node(
        "QuantizeLinear", ["floats", "scale"], ["q"], output_dtype=TensorProto.INT8, precision=TensorProto.FLOAT16
    )
    found = _one_node(node, {"floats": floats, "scale": np.array(scale)}, 23)
    quotients = floats.astype(np.float16) / np.float16(scale)
    assert (np.rint(quotients) != np.rint(floats / scale)).any()
    np.testing.assert_array_equal(found, np.rint(quotients).clip(-128, 127).astype(np.float32) * scale)
