"""Networks on the vendor's simulator.  `make test-rknn` makes an environment for the toolkit and runs these tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from mace_npu.provider import NpuProvider
from mace_npu.rockchip import discovery

from mace_core.errors import UnsupportedError
from mace_core.graph import Graph, Node, Value
from mace_core.quantization import Settings, quantize
from mace_core.session import Session
from mace_core.tensor import DType, TensorType
from mace_core.testing.cases import operator_cases
from mace_core.testing.expected import expected
from mace_core.testing.kit.trial import Trial
from mace_core.testing.models import mobilenet_v2, sample_image
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.quantized import BUILDS, quantized_clusters
from mace_core.testing.runner import run_once, view_of

Array = npt.NDArray[Any]

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


def quantized(model: onnx.ModelProto, shape: tuple[int, ...], folder: Path, settings: Settings | None = None) -> Path:
    path = folder / "quantized.onnx"
    data = [{"x": sample_image(shape, seed)} for seed in range(3)]
    quantize(model, path, data=data, settings=settings)
    return path


def with_signed_activations(path: Path) -> Path:
    """The same model in int8 instead of uint8."""
    model = onnx.load(path)
    zero_points = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for item in model.graph.initializer:
        if item.name in zero_points:
            signed = onnx.numpy_helper.to_array(item).astype(np.int16) - 128
            item.CopyFrom(onnx.numpy_helper.from_array(signed.astype(np.int8), item.name))
    del model.graph.value_info[:]
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("signed", [False, True])
def test_a_quantized_network_is_built_in_integers_and_within_two_steps(tmp_path: Path, signed: bool) -> None:
    path = quantized(small_network(), (1, 3, 32, 32), tmp_path)
    if signed:
        with_signed_activations(path)
    feeds = {"x": sample_image((1, 3, 32, 32), 9)}
    with Session(path, devices=["cpu"], cache=False) as session:
        right = session.run(feeds)["y"]
    options = {"npu": {"rockchip_export": tmp_path / "files"}}
    with Session(path, devices=["npu:rockchip-rk3588"], strict=True, cache=False, options=options) as session:
        found = session.run(feeds)["y"]
    graph = onnx.load(path).graph
    scale = next(item for item in graph.initializer if item.name == graph.node[-1].input[1])
    assert np.abs(found - right).max() <= 2.001 * onnx.numpy_helper.to_array(scale)
    (file,) = (tmp_path / "files").iterdir()
    content = file.read_bytes()
    assert content.startswith(b"RKNN")
    assert b'{"y": {"dtype": "int8"' in content


def test_a_quantized_mobilenet_agrees_with_the_cpu_provider(tmp_path: Path) -> None:
    shape = (1, 3, 224, 224)
    path = quantized(mobilenet_v2(), shape, tmp_path)
    feeds = {"x": sample_image(shape, 9)}
    with Session(path, devices=["cpu"], cache=False) as session:
        right = session.run(feeds)["y"]
    with Session(path, devices=["npu:rockchip-rk3588"], strict=True, cache=False) as session:
        found = session.run(feeds)["y"]
    assert found.argmax() == right.argmax()
    assert np.abs(found - right).max() <= 0.03 * np.ptp(right)


@pytest.mark.parametrize("op_type", sorted(BUILDS))
def test_a_quantized_operator_is_within_two_steps_or_declined(op_type: str) -> None:
    """The kit's clusters between float borders: QuantizeLinear in front, DequantizeLinear behind."""
    provider = NpuProvider()
    (device,) = (found for found in provider.probe().devices if found.id == "rockchip-rk3588")
    backend = provider.open(device, {"rockchip_timeout": 120})
    for trial in (each for each in quantized_clusters()[op_type] if not each.is_combined):
        right = dict(trial.expected())
        graph, feeds, steps = between_floats(trial)
        view = view_of(graph, feeds)
        if backend.capability(view).rejections:
            continue
        (compiled,) = backend.compile([view])
        found = run_once(backend, view, compiled, feeds)
        compiled.close()
        for (name, (scale, zero)), exact in zip(steps.items(), right.values(), strict=True):
            off = np.abs(found[name] - (exact.astype(np.float32) - zero) * scale).max() / scale
            assert off <= 2.001, f"{trial.name}: {off} steps off"
    backend.close()


def between_floats(trial: Trial) -> tuple[Graph, dict[str, Array], dict[str, tuple[Array, Array]]]:
    """A cluster with float inputs and results, what to feed it, and scale and zero point of each result."""
    graph = Graph(trial.graph.name)
    graph.opset_imports = {"": 17}
    graph.initializers = dict(trial.graph.initializers)
    feeds: dict[str, Array] = {}
    stored: dict[Value, Value] = {}
    for value in trial.graph.inputs:
        reader = next(node for node in trial.graph.nodes if node.inputs[0] is value)
        scale, zero = encoding(reader)
        fed = Value(f"float {value.name}", TensorType(DType.FLOAT32, trial.feeds[value.name].shape))
        stored[value] = Value(f"stored {value.name}")
        graph.nodes.append(Node("QuantizeLinear", [fed, *reader.inputs[1:]], [stored[value]], name=f"q {value.name}"))
        graph.inputs.append(fed)
        feeds[fed.name] = (trial.feeds[value.name].astype(np.float32) - zero) * scale
    for node in trial.graph.nodes:
        node.inputs = [stored.get(value, value) if value is not None else None for value in node.inputs]
        graph.nodes.append(node)
    steps = {}
    for value in trial.graph.outputs:
        maker = value.producer
        assert maker is not None
        if maker.op_type != "QuantizeLinear":  # read outside too: declined
            graph.outputs.append(value)
            steps[value.name] = (np.float32(1), np.float32(0))
            continue
        result = Value(f"float {value.name}")
        graph.nodes.append(Node("DequantizeLinear", [value, *maker.inputs[1:]], [result], name=f"d {value.name}"))
        graph.outputs.append(result)
        steps[result.name] = encoding(maker)
    return graph, feeds, steps


def encoding(node: Node) -> tuple[Array, Array]:
    scale, zero = (value.constant for value in node.inputs[1:] if value is not None)
    assert scale is not None
    assert zero is not None
    return scale.numpy(), zero.numpy().astype(np.float32)


def test_sixteen_bits_are_declined_with_a_reason(tmp_path: Path) -> None:
    path = quantized(small_network(), (1, 3, 32, 32), tmp_path, Settings(scheme="a16w8"))
    feeds = {"x": sample_image((1, 3, 32, 32), 9)}
    with Session(path, devices=["npu:rockchip-rk3588", "cpu"], cache=False) as session:
        session.run(feeds)
        assert "rknn-toolkit2 reads opsets 12 to 19" in str(session.explain())


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
