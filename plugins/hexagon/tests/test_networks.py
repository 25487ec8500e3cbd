"""Whole networks on the emulated HTP: one partition, within the arithmetic's precision, equal to onnxruntime's QNN."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hexagon_support import Array, onnxruntime_outputs, quantized, small_network

from mace_core.session import Session
from mace_core.testing.models import PP_OCR_REC, find_packaged_model, mobilenet_v2, sample_image

pytest.importorskip("onnxruntime", reason="onnxruntime is the reference and the quantizer; it is not installed")

SHAPE = (1, 3, 20, 18)
HALF = 1e-2


def run(model: str | Path | bytes, feeds: dict[str, Array], **options: object) -> Array:
    """The first output, computed on hexagon:v75 alone."""
    source = model if isinstance(model, bytes) else str(model)
    with Session(source, devices=["hexagon:v75"], options={"hexagon": options}, strict=True, cache=False) as session:
        outputs = session.run(feeds)
    return next(iter(outputs.values()))


def relative_error(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.ptp(expected))


@pytest.fixture(scope="module")
def samples() -> list[Array]:
    return [sample_image(SHAPE, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def own_provider(library_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Array]:
    """onnxruntime's QNN execution provider on the same library."""
    if not (library_folder / "libonnxruntime_providers_qnn.so").is_file():
        pytest.skip(f"onnxruntime's QNN provider is not beside the QNN libraries in {library_folder}")
    folder = tmp_path_factory.mktemp("onnxruntime_qnn")

    def compute(model: Path, feeds: dict[str, Array], *, half_precision: bool) -> Array:
        np.savez(folder / "inputs.npz", **feeds)
        client = Path(__file__).with_name("onnxruntime_qnn_client.py")
        words = [str(model), str(folder / "inputs.npz"), str(folder / "output.npy"), str(library_folder)]
        done = subprocess.run(
            [sys.executable, str(client), *words, "1" if half_precision else "0"],
            env={**os.environ}, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found: Array = np.load(folder / "output.npy")
        return found

    return compute


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", HALF), ("float32", 1e-5)])
def test_a_float_network(library_folder: Path, samples: list[Array], precision: str, tolerance: float) -> None:
    model = small_network().SerializeToString()
    found = run(model, {"x": samples[0]}, precision=precision)
    (expected,) = onnxruntime_outputs(model, {"x": samples[0]})
    assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize("activation", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_a_quantized_network(
    library_folder: Path, samples: list[Array], tmp_path: Path, activation: str, per_channel: bool
) -> None:
    from onnxruntime.quantization import QuantType

    types = {"activation_type": QuantType[activation], "weight_type": QuantType.QInt8}
    path = quantized(small_network(), tmp_path, samples, per_channel=per_channel, **types)
    found = run(path, {"x": samples[1]})
    (expected,) = onnxruntime_outputs(str(path), {"x": samples[1]})
    assert np.abs(found - expected).max() <= output_step(path) * 1.001


def output_step(path: Path) -> float:
    """One quantization step of the model's output."""
    graph = onnx.load(path).graph
    makers = {name: node for node in graph.node for name in node.output}
    last = makers[graph.output[0].name]
    while last.op_type == "Identity":
        last = makers[last.input[0]]
    assert last.op_type == "DequantizeLinear"
    (scale,) = [item for item in graph.initializer if item.name == last.input[1]]
    return float(onnx.numpy_helper.to_array(scale))


def test_a_quantized_network_equals_onnxruntimes_qnn(
    own_provider: Callable[..., Array], samples: list[Array], tmp_path: Path
) -> None:
    path = quantized(small_network(), tmp_path, samples, per_channel=True)
    expected = own_provider(path, {"x": samples[2]}, half_precision=False)
    np.testing.assert_array_equal(run(path, {"x": samples[2]}), expected)


def test_a_float_network_equals_onnxruntimes_qnn(
    own_provider: Callable[..., Array], samples: list[Array], tmp_path: Path
) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(small_network(), path)
    expected = own_provider(path, {"x": samples[2]}, half_precision=True)
    np.testing.assert_array_equal(run(path, {"x": samples[2]}), expected)


@pytest.mark.parametrize("activation", ["QUInt16", "QInt16"])
def test_activations_of_16_bits(library_folder: Path, samples: list[Array], tmp_path: Path, activation: str) -> None:
    from onnxruntime.quantization import QuantType

    types = {"activation_type": QuantType[activation], "weight_type": QuantType.QInt8}
    path = quantized(small_network(), tmp_path, samples, **types)
    (expected,) = onnxruntime_outputs(str(path), {"x": samples[1]})
    assert relative_error(run(path, {"x": samples[1]}), expected) < 1e-3


def test_a_float16_model(library_folder: Path, samples: list[Array]) -> None:
    random = np.random.default_rng(0)
    weights, bias = (random.uniform(-0.5, 0.5, shape).astype(np.float16) for shape in ((4, 3, 3, 3), (4,)))
    half = onnx.TensorProto.FLOAT16
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1]),
            onnx.helper.make_node("LeakyRelu", ["a"], ["y"], name="relu"),
        ],
        "half",
        [onnx.helper.make_tensor_value_info("x", half, SHAPE)],
        [onnx.helper.make_tensor_value_info("y", half, (1, 4, *SHAPE[2:]))],
        [onnx.numpy_helper.from_array(weights, "w"), onnx.numpy_helper.from_array(bias, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    feeds = {"x": samples[0].astype(np.float16)}
    found = run(model.SerializeToString(), feeds)
    assert found.dtype == np.float16
    (expected,) = onnxruntime_outputs(model.SerializeToString(), feeds)
    assert relative_error(found.astype(np.float32), expected.astype(np.float32)) < 2e-3


@pytest.mark.full
def test_mobilenet_v2_in_half_precision(library_folder: Path) -> None:
    model, feeds = mobilenet_v2().SerializeToString(), {"x": sample_image((1, 3, 224, 224), 11)}
    assert relative_error(run(model, feeds), onnxruntime_outputs(model, feeds)[0]) < HALF


@pytest.mark.full
def test_mobilenet_v2_quantized_equals_onnxruntimes_qnn(own_provider: Callable[..., Array], tmp_path: Path) -> None:
    shape = (1, 3, 224, 224)
    path = quantized(mobilenet_v2(), tmp_path, [sample_image(shape, seed) for seed in range(3)], per_channel=True)
    feeds = {"x": sample_image(shape, 11)}
    found = run(path, feeds)
    np.testing.assert_array_equal(found, own_provider(path, feeds, half_precision=False))
    (expected,) = onnxruntime_outputs(str(path), feeds)
    assert found.argmax() == expected.argmax()
    assert relative_error(found, expected) < 0.03  # 53 layers, each rounding by itself


@pytest.mark.full
def test_pp_ocr_recognition_in_half_precision(library_folder: Path) -> None:
    path = find_packaged_model(*PP_OCR_REC)
    feeds = {"x": np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 64)).astype(np.float32)}
    found, (expected,) = run(path, feeds), onnxruntime_outputs(str(path), feeds)
    assert relative_error(found, expected) < 2 * HALF
    np.testing.assert_array_equal(found.argmax(-1), expected.argmax(-1))
