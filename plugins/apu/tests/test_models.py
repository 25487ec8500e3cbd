"""Well-known networks, real and quantized, on the stand-in, against the CPU provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from apu_support import SHAPE, StandIn, small_network
from lowering_support import model_of, node, quantized_node
from mace_apu.lowering.engine import lower
from mace_apu.neuron.constants import Operation
from onnx import TensorProto

from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.optimizer import optimize
from mace_core.provider import Device
from mace_core.quantization import quantize
from mace_core.session import Session
from mace_core.testing.models import (
    PP_OCR_DET,
    PP_OCR_REC,
    find_packaged_model,
    fsrcnn,
    mobilenet_v2,
    resnet50,
    sample_image,
)
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.runner import view_of

Array = npt.NDArray[Any]
Model = Callable[[], onnx.ModelProto | Path]

PICTURE = (1, 3, 224, 224)


def run(model: onnx.ModelProto | Path, feeds: dict[str, Array], devices: list[str], **options: object) -> Array:
    """The first output."""
    with Session(model, devices=devices, strict=True, cache=False, options={"apu": options}) as session:
        return np.asarray(next(iter(session.run(feeds).values())))


def packaged(which: tuple[str, str]) -> Model:
    def find() -> Path:
        try:
            return find_packaged_model(*which)
        except UsageError as error:
            pytest.skip(str(error))

    return find


@pytest.mark.parametrize(
    ("model", "shape", "half"),
    [
        pytest.param(mobilenet_v2, PICTURE, 2e-3, id="mobilenet_v2"),
        pytest.param(resnet50, PICTURE, 2e-3, id="resnet50", marks=pytest.mark.full),
        pytest.param(fsrcnn, (1, 1, 720, 1280), 2e-3, id="fsrcnn", marks=pytest.mark.full),
        pytest.param(packaged(PP_OCR_DET), (1, 3, 160, 224), 0.1, id="PP-OCRv4 det"),
        pytest.param(packaged(PP_OCR_REC), (1, 3, 48, 160), 0.1, id="PP-OCRv4 rec", marks=pytest.mark.full),
    ],
)
def test_a_float_network_agrees_with_the_cpu_provider(
    device: Device, model: Model, shape: tuple[int, ...], half: float
) -> None:
    """All of it on the device; in float16 probabilities may move by ``half``, other results by that of their range."""
    made, feeds = model(), {"x": sample_image(shape, 5)}
    expected = run(made, feeds, ["cpu"])
    found = run(made, feeds, [device.qualified_name], precision="float32")
    span = max(float(np.ptp(expected)), 1e-3)
    assert np.abs(found - expected).max() <= 2e-4 * span
    found = run(made, feeds, [device.qualified_name], precision="float16")
    assert np.abs(found - expected).max() <= half * max(span, 1.0)


def quantized(model: onnx.ModelProto, shape: tuple[int, ...], folder: Path) -> Path:
    path = folder / "quantized.onnx"
    quantize(model, path, data=[{"x": sample_image(shape, seed)} for seed in range(3)])
    return path


def last_scale(model: Path) -> float:
    """The step of the quantization of the result."""
    graph = onnx.load(model).graph
    last = [node for node in graph.node if node.op_type == "DequantizeLinear"][-1]
    (scale,) = (item for item in graph.initializer if item.name == last.input[1])
    return float(onnx.numpy_helper.to_array(scale))


def operations(model: Path, shape: tuple[int, ...]) -> list[Operation]:
    """What the network consists of."""
    graph = load_model(str(model))
    optimize(graph)
    return [
        call.operation for call in lower(view_of(graph, {"x": np.zeros(shape, np.float32)}), (8, 2, 0)).network.calls
    ]


def test_a_quantized_network_is_within_a_step_of_the_cpu_provider(device: Device, tmp_path: Path) -> None:
    path, feeds = quantized(small_network(), SHAPE, tmp_path), {"x": sample_image(SHAPE, 9)}
    found = run(path, feeds, [device.qualified_name], precision="float32")
    expected = run(path, feeds, ["cpu"])
    assert np.abs(found - expected).max() <= 1.001 * last_scale(path)
    # real numbers at the two ends, and where the pooling would have to change the scale
    assert operations(path, SHAPE).count(Operation.DEQUANTIZE) <= 2


@pytest.mark.parametrize("activations", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_a_network_that_onnxruntime_quantized_gives_what_it_gives_there(
    device: Device, tmp_path: Path, activations: str, per_channel: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = iter([{"x": sample_image(SHAPE, seed)} for seed in range(3)])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.left, None)

    source, path, feeds = tmp_path / "float.onnx", tmp_path / "quantized.onnx", {"x": sample_image(SHAPE, 9)}
    onnx.save(small_network(), source)
    quantize_static(
        source, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
        activation_type=QuantType[activations], weight_type=QuantType.QInt8,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, feeds)
    found = run(path, feeds, [device.qualified_name], precision="float32")
    assert np.abs(found - expected).max() <= 1.001 * last_scale(path)


@pytest.mark.full
@pytest.mark.parametrize("model", [mobilenet_v2, pytest.param(resnet50, marks=pytest.mark.full)])
def test_a_large_quantized_network_agrees_with_the_cpu_provider(device: Device, model: Model, tmp_path: Path) -> None:
    made = model()
    assert isinstance(made, onnx.ModelProto)
    path, feeds = quantized(made, PICTURE, tmp_path), {"x": sample_image(PICTURE, 9)}
    found = run(path, feeds, [device.qualified_name], precision="float32")
    expected = run(path, feeds, ["cpu"])
    assert np.abs(found - expected).max() <= 0.03 * np.ptp(expected)  # 53 layers, each rounding by itself


def test_part_of_a_network_beside_the_cpu_provider(device: Device) -> None:
    """What Neuron does not have runs elsewhere, and the results fit together."""
    net = NetworkBuilder("mixed", SHAPE, seed=3)
    x = net.op("Erf", net.conv("x", 3, 16, 3))
    model = net.build(net.classifier(net.op("GlobalAveragePool", net.conv(x, 16, 16, 3)), 16, 10), (1, 10))
    feeds = {"x": sample_image(SHAPE, 2)}
    expected = run(model, feeds, ["cpu"])
    options = {"apu": {"precision": "float32"}}
    with Session(model, devices=[device.qualified_name, "cpu"], cache=False, options=options) as session:
        (found,) = session.run(feeds).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {device.qualified_name, "cpu:0"}
    assert "no translation of Erf to Neuron" in str(placement)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.ptp(expected)))


def test_a_quantized_layer_that_the_library_refuses_runs_beside_it(
    device: Device, stand_in: StandIn, tmp_path: Path
) -> None:
    """Codes cross the border as they are."""
    path, feeds = quantized(small_network(), SHAPE, tmp_path), {"x": sample_image(SHAPE, 9)}
    expected = run(path, feeds, ["cpu"])
    options = {"apu": {"precision": "float32"}}
    with (
        stand_in.refusing([Operation.MAX_POOL_2D]),
        Session(path, devices=[device.qualified_name, "cpu"], cache=False, options=options) as session,
    ):
        (found,) = session.run(feeds).values()
        assert session.explain().nodes_per_device.keys() == {device.qualified_name, "cpu:0"}
    assert np.abs(found - expected).max() <= 1.001 * last_scale(path)


def test_what_a_quantized_layer_reads_is_there_for_others_too(device: Device) -> None:
    """One DequantizeLinear feeds a layer on the device and an operator that only the CPU provider has."""
    nodes, held = quantized_node("MaxPool", (0.02, np.uint8(128)), (0.02, np.uint8(128)), kernel_shape=[2, 2])
    model = model_of(
        [*nodes, node("Erf", ["xd"], ["e"])], SHAPE, held, outputs={"y": TensorProto.FLOAT, "e": TensorProto.FLOAT}
    )
    feeds = {"x": sample_image(SHAPE, 1)}
    with Session(model, devices=["cpu"], cache=False) as session:
        expected = session.run(feeds)
    options = {"apu": {"precision": "float32"}}
    with Session(model, devices=[device.qualified_name, "cpu"], cache=False, options=options) as session:
        found = session.run(feeds)
        assert session.explain().nodes_per_device.keys() == {device.qualified_name, "cpu:0"}
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-5)
