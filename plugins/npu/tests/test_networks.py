"""Whole networks on OpenVINO's stand-in, beside the CPU provider."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from mace_core.provider import Device
from mace_core.quantization import Settings, quantize
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

Array = npt.NDArray[Any]
Model = Callable[[], onnx.ModelProto | Path]

SMALL = (1, 3, 20, 18)


def run(model: onnx.ModelProto | Path, feeds: dict[str, Array], devices: list[str], **options: object) -> Array:
    """The first output."""
    with Session(model, devices=devices, strict=True, cache=False, options=options) as session:
        return np.asarray(next(iter(session.run(feeds).values())))


def packaged(which: tuple[str, str]) -> Model:
    return lambda: find_packaged_model(*which)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param(mobilenet_v2, (1, 3, 224, 224), id="mobilenet_v2"),
        pytest.param(resnet50, (1, 3, 224, 224), id="resnet50", marks=pytest.mark.full),
        pytest.param(fsrcnn, (1, 1, 720, 1280), id="fsrcnn", marks=pytest.mark.full),
        pytest.param(packaged(PP_OCR_DET), (1, 3, 160, 320), id="PP-OCRv4 det"),
        pytest.param(packaged(PP_OCR_REC), (1, 3, 48, 160), id="PP-OCRv4 rec", marks=pytest.mark.full),
    ],
)
def test_a_float_network_agrees_with_the_cpu_provider(device: Device, model: Model, shape: tuple[int, ...]) -> None:
    made = model()
    feeds = {"x": sample_image(shape, 5)}
    expected = run(made, feeds, ["cpu"])
    found = run(made, feeds, [device.qualified_name])
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


def quantized(model: onnx.ModelProto, shape: tuple[int, ...], folder: Path, settings: Settings | None = None) -> Path:
    path = folder / "quantized.onnx"
    quantize(model, path, data=[{"x": sample_image(shape, seed)} for seed in range(3)], settings=settings)
    return path


def small_network() -> onnx.ModelProto:
    """Each kind of layer of a mobile network: x (1, 3, 20, 18) -> y (1, 10)."""
    net = NetworkBuilder("small", (1, 3, 20, 18), seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1, gain=0.5))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


def steps_apart(model: Path, found: Array, expected: Array) -> float:
    """The largest difference in steps of the last quantization."""
    graph = onnx.load(model).graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    assert last.op_type == "DequantizeLinear"
    (scale,) = (item for item in graph.initializer if item.name == last.input[1])
    return float(np.abs(found - expected).max() / onnx.numpy_helper.to_array(scale))


def with_signed_activations(path: Path) -> None:
    """Make the model's uint8 activations int8."""
    model = onnx.load(path)
    zero_points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for item in model.graph.initializer:
        if item.name in zero_points:
            signed = onnx.numpy_helper.to_array(item).astype(np.int16) - 128
            item.CopyFrom(onnx.numpy_helper.from_array(signed.astype(np.int8), item.name))
    del model.graph.value_info[:]
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("settings", "is_signed"),
    [
        pytest.param(Settings(), False, id="uint8, weights per channel"),
        pytest.param(Settings(granularity="tensor"), False, id="uint8, weights per tensor"),
        pytest.param(Settings(), True, id="int8"),
        pytest.param(Settings(symmetric=True), True, id="int8 symmetric"),
    ],
)
def test_a_quantized_network_is_within_a_step_of_the_cpu_provider(
    device: Device, tmp_path: Path, settings: Settings, is_signed: bool
) -> None:
    path = quantized(small_network(), SMALL, tmp_path, settings)
    if is_signed:
        with_signed_activations(path)
    feeds = {"x": sample_image(SMALL, 9)}
    found, expected = run(path, feeds, [device.qualified_name]), run(path, feeds, ["cpu"])
    assert steps_apart(path, found, expected) <= 1.001


def test_a_network_with_sixteen_bit_activations_agrees_with_the_cpu_provider(device: Device, tmp_path: Path) -> None:
    path = quantized(small_network(), SMALL, tmp_path, Settings(scheme="a16w8"))
    feeds = {"x": sample_image(SMALL, 9)}
    expected = run(path, feeds, ["cpu"])
    with Session(path, devices=[device.qualified_name, "cpu"], cache=False) as session:
        (found,) = session.run(feeds).values()
        assert "OpenVINO leaves out the rounding to 16 bits" in str(session.explain())
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.full
def test_a_quantized_mobilenet_agrees_with_the_cpu_provider(device: Device, tmp_path: Path) -> None:
    shape = (1, 3, 224, 224)
    path = quantized(mobilenet_v2(), shape, tmp_path)
    feeds = {"x": sample_image(shape, 9)}
    found, expected = run(path, feeds, [device.qualified_name]), run(path, feeds, ["cpu"])
    assert found.argmax() == expected.argmax()
    assert np.abs(found - expected).max() <= 0.03 * np.ptp(expected)  # 53 layers, each rounding by itself


def test_half_of_a_network_beside_the_cpu_provider(device: Device) -> None:
    """What OpenVINO declines runs elsewhere, and the results fit together."""
    net = NetworkBuilder("mixed", SMALL, seed=3)
    x = net.conv("x", 3, 16, 3)
    x = net.op("LpNormalization", x, axis=1, p=2)
    model = net.build(net.classifier(net.op("GlobalAveragePool", net.conv(x, 16, 16, 3)), 16, 10), (1, 10))
    feeds = {"x": sample_image(SMALL, 2)}
    expected = run(model, feeds, ["cpu"])
    with Session(model, devices=[device.qualified_name, "cpu"], cache=False) as session:
        (found,) = session.run(feeds).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {device.qualified_name, "cpu:0"}
    assert "OpenVINO adds a constant to the norm" in str(placement)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.ptp(expected)))


def test_the_device_that_ran_is_read_back(device: Device) -> None:
    with Session(small_network(), devices=[device.qualified_name], strict=True, cache=False) as session:
        session.run({"x": sample_image(SMALL)})
        assert "compiled by OpenVINO, which runs it on CPU" in str(session.explain())


def test_a_second_session_takes_the_stored_form(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    feeds = {"x": sample_image(SMALL)}
    results, times = [], []
    for _ in range(2):
        with Session(small_network(), devices=[device.qualified_name], strict=True) as session:
            results.append(next(iter(session.run(feeds).values())))
            times.append(str(session.explain()))
    np.testing.assert_array_equal(*results)
    assert "compiled in" in times[0]
    assert "from the cache" in times[1]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_precision_is_a_choice(device: Device, precision: str, tolerance: float) -> None:
    feeds = {"x": sample_image(SMALL, 4)}
    expected = run(small_network(), feeds, ["cpu"])
    found = run(small_network(), feeds, [device.qualified_name], npu={"openvino_precision": precision})
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)
