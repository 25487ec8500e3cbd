"""Drivers come from any distribution; what is wrong with one does not affect the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mace_npu.drivers import Drivers, installed_drivers

DRIVER = """
from mace_core.provider import Device, DeviceKind, ProbeResult
from mace_npu.driver import NpuDriver


class Driver(NpuDriver):
    name = "thing"
    options = {{"speed": "how fast"}}

    def probe(self, options):
        return ProbeResult((Device("npu", "thing-0", DeviceKind.NPU, "Thing", "Things Inc."),))

    def check(self, options):
        pass

    def open(self, device, options):
        raise AssertionError
"""


def install(folder: Path, distribution: str, entry: str, code: str = DRIVER) -> None:
    """A distribution with one module and one driver."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code.format())
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mace.npu_drivers]\n{entry}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on ``sys.path``."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def faults(drivers: Drivers) -> dict[str, str]:
    return {item.what: item.reason for item in drivers.faults}


def test_a_driver_of_somebody_else_is_found(site: Path) -> None:
    install(site, "thing-driver", "thing = thing_driver:Driver")
    drivers = installed_drivers()
    assert {"openvino", "thing"} <= drivers.usable.keys()
    assert not drivers.faults


@pytest.mark.parametrize(
    ("entry", "code", "reason"),
    [
        ("thing = broken_driver:Driver", "raise OSError('no such chip')", "OSError: no such chip"),
        ("thing = broken_driver:Missing", DRIVER, "Missing"),
        ("thing = broken_driver:Driver", "Driver = dict", "is not a subclass of mace_npu.driver.NpuDriver"),
        ("other = broken_driver:Driver", DRIVER, "calls itself 'thing'"),
    ],
)
def test_a_driver_that_cannot_be_used_is_a_reason(
    site: Path, monkeypatch: pytest.MonkeyPatch, entry: str, code: str, reason: str
) -> None:
    monkeypatch.delitem(sys.modules, "broken_driver", raising=False)
    install(site, "broken-driver", entry, code)
    drivers = installed_drivers()
    (fault,) = [line for what, line in faults(drivers).items() if "broken-driver 1.0" in what]
    assert reason in fault
    assert "openvino" in drivers.usable


def test_of_two_drivers_with_one_name_the_first_is_used(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "second_driver", raising=False)
    install(site, "first-driver", "thing = first_driver:Driver")
    install(site, "second-driver", "thing = second_driver:Driver")
    drivers = installed_drivers()
    assert "thing" in drivers.usable
    (fault,) = faults(drivers).values()
    assert "another distribution has a driver of this name" in fault
