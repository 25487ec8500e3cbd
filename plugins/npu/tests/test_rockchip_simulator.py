"""Networks on the vendor's simulator.  `make test-rknn` makes an environment for the toolkit and runs these tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from mace_npu.provider import NpuProvider
from mace_npu.rockchip import discovery

from mace_core.errors import UnsupportedError
from mace_core.session import Session
from mace_core.testing.cases import operator_cases
from mace_core.testing.expected import expected
from mace_core.testing.models import mobilenet_v2, sample_image
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.runner import run_once, view_of

_PYTHON = discovery.interpreter()

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        _PYTHON is None or discovery.why_unusable(_PYTHON) is not None,
        reason=f"rknn-toolkit2 is not here; {discovery.HINT}",
    ),
]

HALF = 1e-2
"""The simulator computes in float16."""


def small_network() -> onnx.ModelProto:
    """Operators of convolutional networks: x (1, 3, 32, 32) -> y (1, 10)."""
    net = NetworkBuilder("small", (1, 3, 32, 32), seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1, gain=0.5))
    x = net.op("Concat", x, net.op("Sigmoid", x), axis=1)
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 32, 10), (1, 10))


@pytest.mark.parametrize(("model", "shape"), [(small_network, (1, 3, 32, 32)), (mobilenet_v2, (1, 3, 224, 224))])
def test_a_network_agrees_with_the_cpu_provider(model: Callable[[], onnx.ModelProto], shape: tuple[int, ...]) -> None:
    feeds = {"x": sample_image(shape, 5)}
    with Session(model(), devices=["cpu"], cache=False) as session:
        right = session.run(feeds)["y"]
    with Session(model(), devices=["npu:rockchip-rk3588"], strict=True, cache=False) as session:
        found = session.run(feeds)["y"]
        assert "a simulation by rknn-toolkit2" in str(session.explain())
    assert np.abs(found - right).max() <= HALF * np.ptp(right)


@pytest.mark.parametrize("chip", ["rk3562", "rk3566", "rk3568", "rk3576"])
def test_other_chips(chip: str) -> None:
    feeds = {"x": sample_image((1, 3, 32, 32), 5)}
    with Session(small_network(), devices=["cpu"], cache=False) as session:
        right = session.run(feeds)["y"]
    with Session(small_network(), devices=[f"npu:rockchip-{chip}"], strict=True, cache=False) as session:
        found = session.run(feeds)["y"]
    assert np.abs(found - right).max() <= HALF * np.ptp(right)


def test_every_operator_it_claims_is_right() -> None:
    """Each case of the conformance kit that the driver claims."""
    provider = NpuProvider()
    (device,) = (found for found in provider.probe().devices if found.id == "rockchip-rk3588")
    backend = provider.open(device, {})
    wrong, claimed = [], set()
    for case in operator_cases():
        graph = case.graph()
        graph.opset_imports = {"": 17}
        view = view_of(graph, case.feeds())
        if not case.feeds() or not backend.capability(view).claims:
            continue
        claimed.add(case.op_type)
        try:
            (compiled,) = backend.compile([view])
        except UnsupportedError:  # the core would place it elsewhere
            wrong.append(f"{case.name}: claimed, and refused when it was built")
            continue
        found = run_once(backend, view, compiled, case.feeds())
        compiled.close()
        for name, exact in expected(case).items():
            if not np.abs(found[name] - exact).max() <= HALF * max(np.abs(exact).max(), 1e-3):
                wrong.append(f"{case.name}: {np.abs(found[name] - exact).max()} off")
    backend.close()
    assert not wrong, "; ".join(wrong)
    assert len(claimed) > 25
