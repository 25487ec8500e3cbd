"""On a real NPU, where one is found: what the tests of the stand-ins cannot show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mace_npu.provider import NpuProvider

from mace_core.provider import Device
from mace_core.quantization import quantize
from mace_core.session import Session
from mace_core.testing.models import mobilenet_v2, sample_image

REAL = [device for device in NpuProvider().probe().devices if not device.is_virtual]

pytestmark = pytest.mark.skipif(not REAL, reason="no NPU is here; `mace doctor` says what was looked for")

SHAPE = (1, 3, 224, 224)
FEEDS = {"x": sample_image(SHAPE, 5)}


@pytest.mark.parametrize("device", REAL, ids=lambda device: device.qualified_name)
@pytest.mark.parametrize("is_quantized", [False, True])
def test_mobilenet_v2_runs_there_and_agrees_with_the_cpu_provider(
    device: Device, is_quantized: bool, tmp_path: Path
) -> None:
    path = tmp_path / "quantized.onnx"
    if is_quantized:
        quantize(mobilenet_v2(), path, data=[{"x": sample_image(SHAPE, seed)} for seed in range(3)])
    model = path if is_quantized else mobilenet_v2()
    with Session(model, devices=["cpu"], cache=False) as session:
        right = session.run(FEEDS)["y"]
    with Session(model, devices=[device.qualified_name], strict=True, cache=False) as session:
        found = session.run(FEEDS)["y"]
    assert found.argmax() == right.argmax()
    assert np.abs(found - right).max() <= 0.03 * np.ptp(right)


@pytest.mark.parametrize("device", REAL, ids=lambda device: device.qualified_name)
def test_what_it_compiled_is_used_again(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    results = []
    for said in ("compiled in", "from the cache"):
        with Session(mobilenet_v2(), devices=[device.qualified_name], strict=True) as session:
            results.append(session.run(FEEDS)["y"])
            assert said in str(session.explain())
    np.testing.assert_array_equal(*results)
