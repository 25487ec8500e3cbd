"""Fixtures: OpenVINO's stand-in for an NPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mace_npu.openvino import discovery
from mace_npu.provider import NpuProvider
from mace_testing.quick_tier import is_drawn, operator_of

from mace_core.provider import Backend, Device

DRAWN = {
    "test_a_result_is_right_whoever_reads_it": ("neighbor_operator", 4),
    "test_every_case_is_right_in_a_session_with_fallback": ("case", 3),
    "test_runs_stay_within_what_they_are_bound_to": ("claimed_case", 3),
    "test_quantized_clusters_are_right_or_declined": ("cluster_operator", 2),
}
"""Tests of the kit, of whose operators one of so many is tried in the quick tier: the library takes long to compile.
Each operator is compared with the reference all the same."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the others to the full tests."""
    for item in items:
        if isinstance(item, pytest.Function) and "test_conformance.py::TestOpenVino::" in item.nodeid:
            parameter, one_of = DRAWN.get(item.originalname, ("", 0))
            if parameter and not is_drawn(operator_of(item.callspec.params[parameter]), one_of):
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
