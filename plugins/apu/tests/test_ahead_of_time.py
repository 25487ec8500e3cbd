"""Compiled networks in packages: used without compiling by the library that made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from apu_support import StandIn
from mace_apu.backend import ApuBackend

import mace_core as mace
from mace_core.provider import Device
from mace_core.testing.network import NetworkBuilder


def test_a_package_is_used_without_compiling_and_names_the_options_that_differ(
    stand_in: StandIn, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    compile_them = ApuBackend.compile

    def counted(self: ApuBackend, subgraphs: object) -> object:
        calls.append(self.device.id)
        return compile_them(self, subgraphs)  # type: ignore[arg-type]

    monkeypatch.setattr(ApuBackend, "compile", counted)
    net = NetworkBuilder("small", (1, 3, 20, 18), seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    model = net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))
    package, name = tmp_path / "small.mace", device.qualified_name
    found = mace.compile(model, package, devices=[name], strict=True)
    assert found.targets[0].share == 1.0
    assert len(calls) == 1
    feed = np.random.default_rng(0).standard_normal((1, 3, 20, 18), np.float32)
    with mace.Session(model, devices=["cpu"]) as session:
        expected = session.run({"x": feed})["y"]
    with mace.Session(package, devices=[name], strict=True, cache=False) as session:
        np.testing.assert_allclose(session.run({"x": feed})["y"], expected, atol=0.02)
        assert "restored from" in str(session.explain().preparations[0])
    assert len(calls) == 1
    options = {"apu": {"performance": "low_power"}}
    with mace.Session(package, devices=[name], options=options, cache=False) as session:
        session.run({"x": feed})
        assert 'compiled with the options {}, and this session has {"performance": "low_power"}' in str(
            session.explain().preparations[0]
        )
    assert len(calls) == 2
