"""Fixtures: OpenVINO's stand-in for an NPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mace_npu.openvino import discovery
from mace_npu.provider import NpuProvider

from mace_core.provider import Backend, Device


@pytest.fixture(scope="session")
def device() -> Device:
    """OpenVINO on this machine's processor."""
    if discovery.package_folder() is None:
        pytest.skip("OpenVINO is not installed; pip install mace-npu[openvino]")
    return next(device for device in NpuProvider().probe().devices if device.id == discovery.CPU.id)


@pytest.fixture
def backend(device: Device) -> Iterator[Backend]:
    """The same, open."""
    opened = NpuProvider().open(device, {})
    yield opened
    opened.close()
