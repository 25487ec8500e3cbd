"""Whole networks on the stand-in, against the CPU provider."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder

SHAPE = (1, 3, 20, 18)


def small_network() -> onnx.ModelProto:
    """Each kind of layer of a mobile network: x (1, 3, 20, 18) -> y (1, 10)."""
    net = NetworkBuilder("small", SHAPE, seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1, gain=0.5))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 5e-3), ("float32", 1e-5)])
def test_a_small_network_runs_whole(device: Device, precision: str, tolerance: float) -> None:
    feeds = {"x": sample_image(SHAPE)}
    with Session(small_network(), devices=["cpu"], cache=False) as session:
        (expected,) = session.run(feeds).values()
    options = {"apu": {"precision": precision}}
    with Session(
        small_network(), devices=[device.qualified_name], strict=True, cache=False, options=options
    ) as session:
        (found,) = session.run(feeds).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(np.ptp(expected)))
