"""Pruning whole models: the file, what engines make of it, the report, and bad input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.errors import InputError, MaceError, UsageError
from mace_core.frontend.load import load_model
from mace_core.optimizer import optimize
from mace_core.quantization import quantize
from mace_core.sparsity import Pattern, Pruner, Pruning, prune
from mace_core.sparsity.layers import layers_of
from mace_core.sparsity.patterns import has_pattern

sys.path.insert(0, str(Path(__file__).parent))
from pruned_network import network, samples

Array = np.ndarray[Any, Any]


def run_ort(model: str | bytes, x: Array) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    found: Array = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return found


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pruning]:
    path = tmp_path_factory.mktemp("prune") / "pruned.onnx"
    return path, prune(network(), path, data=samples(8))


def test_the_file_is_valid_and_smaller(pruned: tuple[Path, Pruning]) -> None:
    path, found = pruned
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size < 0.62 * len(network().SerializeToString())
    assert found.bytes_after < 0.6 * found.bytes_before


def test_engines_agree_on_it(pruned: tuple[Path, Pruning]) -> None:
    path, _ = pruned
    (x,) = samples(1)
    wanted = run_ort(str(path), x)
    for devices in (["cpu"], ["reference"]):
        with Session(str(path), devices=devices) as session:
            np.testing.assert_allclose(session.run({"x": x})["y"], wanted, rtol=1e-3, atol=1e-5)


def test_weights_keep_to_the_pattern_and_are_constants_again_when_loaded(pruned: tuple[Path, Pruning]) -> None:
    path, found = pruned
    graph = load_model(str(path))
    optimize(graph)
    layers = {layer.node.name: layer for layer in layers_of(graph)}
    assert {layer.name for layer in found.layers} == {"a", "b", "c", "m", "g"}
    for one in found.layers:
        layer = layers[one.name]
        by_taps = layer.matrices()[0].reshape(layer.outputs, layer.inputs, layer.taps).transpose(0, 2, 1)
        assert has_pattern(by_taps, one.pattern), one.name
        assert one.pattern.by_tap == (one.name == "b"), "only Winograd's method wants one pattern for all taps"
        assert (by_taps != 0).mean() > 0.45, one.name


def test_the_report_says_why_layers_are_dense(pruned: tuple[Path, Pruning]) -> None:
    _, found = pruned
    assert found.dense == {
        "stem": "only 3 input channels",
        "deep": "depthwise",
        "last": "only 10 output channels, fewer than share a pattern",
    }
    assert found.samples == 8
    assert "8 samples are few" in found.notes[0]


def test_compensation_is_reported_and_helps(pruned: tuple[Path, Pruning], tmp_path: Path) -> None:
    _, found = pruned
    for layer in found.layers:
        assert layer.error is not None and layer.error_by_magnitude is not None
        assert layer.error < 0.95 * layer.error_by_magnitude, layer.name
        assert 0.4 < layer.magnitude < 1
    plain = prune(network(), tmp_path / "plain.onnx")
    assert all(layer.error is None for layer in plain.layers)
    wanted = [run_ort(network().SerializeToString(), x) for x in samples(4)]
    errors = [
        sum(float(np.square(run_ort(str(path), x) - y).sum()) for x, y in zip(samples(4), wanted, strict=True))
        for path in (pruned[0], tmp_path / "plain.onnx")
    ]
    assert errors[0] < 0.7 * errors[1]


def test_the_cpu_leaves_out_what_was_pruned(pruned: tuple[Path, Pruning]) -> None:
    with Session(str(pruned[0]), devices=["cpu"]) as session:
        steps = [span.name for span in session.profile({"x": samples(1)[0]}).spans]
    assert sum("sparse" in step for step in steps) >= 5, steps


def test_weights_may_be_written_with_their_zeros(tmp_path: Path) -> None:
    packed, dense = tmp_path / "packed.onnx", tmp_path / "dense.onnx"
    prune(network(), packed)
    Pruner(network()).run(dense, packed=False)
    assert dense.stat().st_size > 1.6 * packed.stat().st_size
    (x,) = samples(1)
    np.testing.assert_array_equal(run_ort(str(packed), x), run_ort(str(dense), x))
    assert not any(node.op_type == "Gather" for node in onnx.load(dense).graph.node)


def test_weights_are_packed_only_where_that_is_smaller(tmp_path: Path) -> None:
    """A pattern of each output needs an entry of the table for each weight, or for nine taps that have one pattern."""
    found = prune(network(), tmp_path / "out.onnx", pattern=Pattern(2, 4, 1))
    assert found.bytes_after <= found.bytes_before
    gathers = [node.name for node in onnx.load(tmp_path / "out.onnx").graph.node if node.op_type == "Gather"]
    assert gathers == ["a_w_Gather"]


def test_a_pruned_model_can_be_quantized(pruned: tuple[Path, Pruning], tmp_path: Path) -> None:
    out = tmp_path / "int8.onnx"
    quantize(str(pruned[0]), out, data=samples(4))
    (x,) = samples(1)
    wanted, found = run_ort(str(pruned[0]), x), run_ort(str(out), x)
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_exclusions_and_all_layers(tmp_path: Path) -> None:
    found = Pruner(network(), Pattern(2, 4, 8), exclude=["Gemm", "a"], all_layers=True).run(tmp_path / "out.onnx")
    assert {layer.name for layer in found.layers} == {"b", "c", "m"}
    assert found.dense["g"] == "excluded by 'Gemm'" and found.dense["a"] == "excluded by 'a'"
    with pytest.raises(UsageError, match="nobody"):
        Pruner(network(), exclude=["nobody"])


def test_weights_that_two_layers_share_stay_right(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="one"),
        helper.make_node("MatMul", ["a", "w"], ["b"], name="two"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="three"),
    ]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 64])],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = prune(model, tmp_path / "out.onnx")
    assert found.dense == {"three": "the last layer"}
    x = np.ones((2, 64), np.float32)
    kept = run_ort(str(tmp_path / "out.onnx"), x)
    with Session(str(tmp_path / "out.onnx"), devices=["cpu"]) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], kept, rtol=1e-4, atol=1e-4 * np.abs(kept).max())


# --- bad input --------------------------------------------------------------------------------------------------------


def fails(out: Path, error: type[MaceError], match: str, data: Any = None, model: Any = None, **how: Any) -> None:
    with pytest.raises(error, match=match):
        Pruner(network() if model is None else model, **how).run(out, data=data)
    assert not out.exists(), "nothing half-written is left"


def test_bad_data_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    fails(out, InputError, "no sample", data=[])
    fails(out, InputError, r"\[1, 3, 5\]|shape", data=[np.zeros((1, 3, 5), np.float32)])
    fails(out, MaceError, "NaN", data=[np.full((1, 3, 20, 20), np.nan, np.float32)])
    fails(out, MaceError, "no calibration data", data="nowhere")

    def raising() -> Any:
        yield samples(1)[0]
        raise ValueError("the camera is off")

    fails(out, MaceError, "the camera is off", data=raising)


def test_models_without_anything_to_prune(tmp_path: Path) -> None:
    fails(tmp_path / "out.onnx", UsageError, "no layer to prune to 2:4: .*channels", model=network(channels=4))


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = network()
    index = next(i for i, tensor in enumerate(model.graph.initializer) if tensor.name == "a_w")
    array = numpy_helper.to_array(model.graph.initializer[index]).copy()
    array[0, 0, 0, 0] = np.inf
    model.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, "a_w"))
    fails(tmp_path / "out.onnx", UsageError, "weight of node 'a' is NaN or infinite", model=model)


def test_the_output_must_be_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(network(), path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is the model itself"):
        prune(str(path), path)
    with pytest.raises(UsageError, match="no folder"):
        prune(str(path), tmp_path / "nowhere" / "out.onnx")
    assert path.read_bytes() == before


# --- then quantized ---------------------------------------------------------------------------------------------------


def test_pruned_models_can_be_quantized(pruned: tuple[Path, Pruning], tmp_path: Path) -> None:
    """Zeros stay zeros, the file is smaller than either way makes it, engines agree, and kernels leave them out."""
    path, _ = pruned
    sparse, dense, x = tmp_path / "sparse.onnx", tmp_path / "dense.onnx", samples(8)
    quantize(str(path), sparse, data=x)
    quantize(network(), dense, data=x)
    onnx.checker.check_model(str(sparse), full_check=True)
    assert sparse.stat().st_size < 0.75 * dense.stat().st_size
    assert sparse.stat().st_size < 0.45 * path.stat().st_size
    wanted = run_ort(str(sparse), x[0])
    step = np.diff(np.unique(wanted)).min()
    with Session(str(sparse), devices=["cpu"], strict=True) as session:
        found = session.run({"x": x[0]})["y"]
        assert np.abs(found - wanted).max() < 1.5 * step
        spans = [span.name for span in session.profile({"x": x[0]}).spans]
    assert sum("sparse" in name and name.startswith("QLinear") for name in spans) >= 2, spans
