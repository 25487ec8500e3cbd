"""Compiled models in packages: used without compiling by the same OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import mace_core as mace
from mace_core.testing.network import NetworkBuilder

DEVICE = "npu:openvino-cpu"


def test_a_package_is_used_without_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from mace_npu.openvino.backend import OpenVinoBackend

    calls: list[str] = []
    compile_them = OpenVinoBackend.compile

    def counted(self: OpenVinoBackend, subgraphs: object) -> object:
        calls.append(self.device.id)
        return compile_them(self, subgraphs)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenVinoBackend, "compile", counted)
    net = NetworkBuilder("small", (1, 3, 20, 18), seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    model = net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))
    package = tmp_path / "small.mace"
    found = mace.compile(model, package, devices=[DEVICE], strict=True)
    assert found.targets[0].share == 1.0
    feed = np.random.default_rng(0).standard_normal((1, 3, 20, 18), np.float32)
    with mace.Session(model, devices=["cpu"]) as session:
        expected = session.run({"x": feed})["y"]
    with mace.Session(package, devices=[DEVICE], strict=True, cache=False) as session:
        np.testing.assert_allclose(session.run({"x": feed})["y"], expected, atol=1e-4)
        assert "restored from" in str(session.explain().preparations[0])
    assert calls == ["openvino-cpu"]
