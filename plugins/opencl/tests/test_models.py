"""Whole models in one partition on a device, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.errors import UsageError
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing import models

TOLERANCE = 1e-4
"""Largest difference, relative to the largest magnitude of the output."""


def compare(device: Device, model: Any, feed: npt.NDArray[np.float32], scale: float = 0.0) -> None:
    """``scale``: a magnitude that the output can have, where this one may have no large elements."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, the measure, is not installed")
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    peer = runtime.InferenceSession(source, providers=["CPUExecutionProvider"])
    name = peer.get_inputs()[0].name
    expected = peer.run(None, {name: feed})
    with Session(model, devices=[device.qualified_name], strict=True) as session:
        found = list(session.run({name: feed}).values())
        explanation = session.explain()
    assert len(explanation.partitions) == 1, "one partition"
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert float(np.abs(ours - theirs).max()) <= TOLERANCE * max(float(np.abs(theirs).max()), scale)


def packaged(place: tuple[str, str]) -> Path:
    try:
        return models.find_packaged_model(*place)
    except UsageError as error:
        pytest.skip(str(error))


def test_mobilenet_v2(device: Device) -> None:
    compare(device, models.mobilenet_v2(), models.sample_image((1, 3, 224, 224)))


def test_a_quantized_network(device: Device, tmp_path: Path) -> None:
    """Computed in float32 between the roundings; so is the measure, without its integer kernels."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime, the measure, is not installed")
    from mace_core.quantization import quantize
    from mace_core.testing.network import NetworkBuilder

    net = NetworkBuilder("small", (1, 3, 24, 24), seed=1)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    x = net.op("Add", x, net.swish(net.conv(x, 16, 16, 3, group=16)))
    x = net.op("Concat", net.conv(x, 16, 8, 1), net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), axis=1)
    path = tmp_path / "small.int8.onnx"
    model = net.build(net.classifier(net.op("GlobalAveragePool", x), 24, 10), (1, 10))
    pictures = [models.sample_image((1, 3, 24, 24), seed) for seed in range(4)]
    quantize(model, path, data=pictures, devices=["cpu"])
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = runtime.InferenceSession(path, options).run(None, {"x": pictures[0]})
    with Session(path, devices=[device.qualified_name], strict=True) as session:
        found = session.run({"x": pictures[0]})["y"]
        assert len(session.explain().partitions) == 1
    step = np.diff(np.unique(expected)).min()
    assert np.abs(found - expected).max() < 1.5 * step


@pytest.mark.full
def test_pp_ocr_recognition(device: Device) -> None:
    compare(device, packaged(models.PP_OCR_REC), models.sample_image((1, 3, 48, 96)))


@pytest.mark.full
def test_pp_ocr_detection(device: Device) -> None:
    compare(device, packaged(models.PP_OCR_DET), models.sample_image((1, 3, 160, 224)), scale=1.0)  # probabilities


@pytest.mark.full
def test_pp_ocr_classification(device: Device) -> None:
    compare(device, packaged(models.PP_OCR_CLS), models.sample_image((1, 3, 48, 192)))


@pytest.mark.full
@pytest.mark.parametrize("name", ["resnet50", "squeezenet1_1", "efficientnet_b0", "vit_tiny"])
def test_further_networks(device: Device, name: str) -> None:
    compare(device, getattr(models, name)(), models.sample_image((1, 3, 224, 224)))
