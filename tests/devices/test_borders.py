"""A node in the middle that a device declines: device, CPU, device; the way there and back is told, strict refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.errors import DeviceNotFoundError, StrictPlacementError
from mace_core.provider import find_device

DEVICES = {"acme:sim0": 1e-5, "opencl:0": 1e-5, "hexagon:v75": 1e-2}
"""Device -> tolerance as a share of the output's range (Hexagon computes in float16)."""

OWN_MEMORY = ("acme:sim0", "opencl:0")
"""Devices whose memory the CPU cannot address: values are copied at each border."""


@pytest.fixture(params=list(DEVICES))
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        found = find_device(name)
    except DeviceNotFoundError as error:
        pytest.skip(str(error))
    assert found.is_virtual, "on a machine with the real unit this test would not be about a stand-in"
    return name


def model() -> onnx.ModelProto:
    """Project and bend on the device, determinant on the CPU, add and rectify on the device."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="project"),
        helper.make_node("Relu", ["a"], ["b"], name="bend"),
        helper.make_node("Det", ["b"], ["d"], name="determinant"),
        helper.make_node("Add", ["d", "bias"], ["e"], name="shift"),
        helper.make_node("Relu", ["e"], ["y"], name="rectify"),
    ]
    constants = [
        numpy_helper.from_array(rng.uniform(-1, 1, (4, 4)).astype(np.float32), "w"),
        numpy_helper.from_array(np.linspace(0.5, 1.5, 6).astype(np.float32).reshape(1, 6), "bias"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6, 4, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])]
    graph = helper.make_graph(nodes, "borders", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_declined_node_in_the_middle_runs_on_the_cpu(device: str) -> None:
    proto = model()
    feeds = {"x": np.random.default_rng(1).uniform(-1, 1, (1, 6, 4, 4)).astype(np.float32)}
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feeds)
    with mace.Session(proto, devices=[device, "cpu"]) as session:
        found = session.run(feeds)["y"]
        placement = session.explain()
    spread = float(np.ptp(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=DEVICES[device] * spread)
    placed = {entry.node: entry for entry in placement.nodes}
    assert placed["determinant"].device == "cpu:0"
    assert len(placed["determinant"].declined[device].split()) >= 3, "the device's reason is told"
    assert {placed[name].device for name in ("project", "bend", "shift", "rectify")} == {device}
    assert [part.device for part in placement.partitions] == [device, "cpu:0", device]
    crossings = [(transfer.value, transfer.source, transfer.target) for transfer in placement.transfers]
    if device in OWN_MEMORY:
        assert {("b", device, "host"), ("d", "host", device)} <= set(crossings)
        assert all(transfer.nbytes > 0 for transfer in placement.transfers)
        assert f"transfers: {len(crossings)} a run" in str(placement)
    else:
        assert not crossings
    assert "(virtual" in str(placement)
    assert placement.fallback_count == 0, "the cpu was named: it is not a fallback"


def test_strict_refuses_naming_the_node_and_the_reason(device: str) -> None:
    with pytest.raises(StrictPlacementError, match=rf"(?s)'determinant' \(Det\): {device}: .*Det"):
        mace.Session(model(), devices=[device], strict=True)


def test_a_second_start_compiles_nothing(device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    feeds = {"x": np.random.default_rng(1).uniform(-1, 1, (1, 6, 4, 4)).astype(np.float32)}
    path = tmp_path / "borders.onnx"
    onnx.save(model(), path)
    results = []
    restored = []
    for _ in range(2):
        with mace.Session(path, devices=[device, "cpu"]) as session:
            results.append(session.run(feeds)["y"])
            restored.append({done.restored for done in session.explain().preparations if done.device == device})
    assert restored == [{False}, {True}]
    np.testing.assert_array_equal(results[0], results[1])
