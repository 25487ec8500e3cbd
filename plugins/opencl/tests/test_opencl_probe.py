"""mace-opencl says what a machine lacks for OpenCL, by looking; it offers no devices in this version."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mace_opencl import discovery
from mace_opencl.provider import OpenClProvider

from mace_core.errors import ProviderError
from mace_core.provider import Device, DeviceKind, ProbeResult, Registry
from mace_core.provider.entry_points import Switches

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="library names of Linux")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any OpenCL: its library folder is ``lib``, its drivers register in ``vendors``."""
    for name in ("lib", "vendors"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "lib"))
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path / "vendors"))
    monkeypatch.delenv("OCL_ICD_FILENAMES", raising=False)
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    monkeypatch.setattr(discovery, "binding_folder", lambda: None)
    return tmp_path


def missing(result: ProbeResult) -> dict[str, str]:
    return {item.what: item.reason for item in result.missing}


def test_nothing_there_names_the_loader_the_driver_and_the_binding(machine: Path) -> None:
    result = OpenClProvider().probe()
    assert result.devices == ()
    found = missing(result)
    assert next(iter(found)) == "execution support"
    assert "libOpenCL.so.1/libOpenCL.so" in found
    assert str(machine / "vendors") in found["OpenCL driver"]
    assert "pyopencl" in found
    assert all(item.hint for item in result.missing)


def test_a_loader_that_is_there_is_not_missed(machine: Path) -> None:
    (machine / "lib" / "libOpenCL.so.1").touch()
    result = OpenClProvider().probe()
    assert not [what for what in missing(result) if "libOpenCL" in what]
    assert str(machine / "lib" / "libOpenCL.so.1") in result.depends_on


def test_the_loader_inside_the_pyopencl_wheel_counts(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = machine / "site" / "pyopencl"
    bundled = machine / "site" / "pyopencl.libs" / "libOpenCL-83a5a7fd.so.1.0.0"
    package.mkdir(parents=True)
    bundled.parent.mkdir()
    bundled.touch()
    monkeypatch.setattr(discovery, "binding_folder", lambda: package)
    assert discovery.find_loader() == bundled
    assert "pyopencl" not in missing(OpenClProvider().probe())


def test_a_registered_driver_whose_library_is_gone_is_named(machine: Path) -> None:
    (machine / "vendors" / "nvidia.icd").write_text("libnvidia-opencl.so.1\n")
    found = missing(OpenClProvider().probe())
    assert "OpenCL driver" not in found
    assert "nvidia.icd names it, but there is no such library" in found["libnvidia-opencl.so.1"]


def test_a_registered_driver_that_is_there_is_not_missed(machine: Path) -> None:
    (machine / "lib" / "libnvidia-opencl.so.1").touch()
    (machine / "vendors" / "nvidia.icd").write_text("libnvidia-opencl.so.1\n")
    absolute = machine / "libpocl.so"
    absolute.touch()
    (machine / "vendors" / "pocl.icd").write_text(str(absolute))
    assert [driver.library for driver in discovery.find_drivers()] == [
        machine / "lib" / "libnvidia-opencl.so.1",
        absolute,
    ]


def test_an_empty_registration_is_reported(machine: Path) -> None:
    (machine / "vendors" / "empty.icd").write_text("")
    assert "library of empty.icd" in missing(OpenClProvider().probe())


def test_even_where_all_is_there_it_says_that_it_can_not_run_models(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("libOpenCL.so.1", "libdriver.so"):
        (machine / "lib" / name).touch()
    (machine / "vendors" / "driver.icd").write_text("libdriver.so")
    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    result = OpenClProvider().probe()
    assert result.devices == ()
    assert list(missing(result)) == ["execution support"]


def test_opening_a_device_is_refused() -> None:
    device = Device("opencl", "0", DeviceKind.GPU, "GPU", "acme")
    with pytest.raises(ProviderError, match="can not run models on them yet") as caught:
        OpenClProvider().open(device, {})
    assert caught.value.device == "opencl:0"


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("opencl"), OpenClProvider)
