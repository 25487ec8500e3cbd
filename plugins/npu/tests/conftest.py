"""Fixtures: OpenVINO's stand-in for an NPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mace_npu.openvino import discovery
from mace_npu.provider import NpuProvider

from mace_core.provider import Backend, Device

READERS = ("Conv", "MatMul")
"""Operators whose results are read elsewhere in the quick tier; one test compiles dozens of networks."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the kit asks of results that are read elsewhere runs with the full tests, but for a few operators."""
    for item in items:
        if "test_conformance.py::TestOpenVino::test_a_result_is_right_whoever_reads_it" in item.nodeid:
            assert isinstance(item, pytest.Function)
            if item.callspec.params["neighbor_operator"] not in READERS:
                item.add_marker(pytest.mark.full)


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
