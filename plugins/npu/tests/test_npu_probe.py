"""mace-npu looks for OpenVINO and an NPU's driver; it offers no devices in this version."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mace_npu import discovery
from mace_npu.provider import NpuProvider

from mace_core.discovery.entry_points import Switches
from mace_core.errors import ProviderError
from mace_core.provider import Device, DeviceKind, Registry

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="library names of Linux")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without OpenVINO and without an NPU."""
    for name in ("INTEL_OPENVINO_DIR", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    monkeypatch.setattr(discovery, "_package_folder", lambda: None)
    monkeypatch.setattr(discovery, "ACCELERATOR_FOLDER", tmp_path / "accel")
    return tmp_path


def reasons() -> dict[str, str]:
    result = NpuProvider().probe()
    assert result.devices == ()
    return {item.what: item.reason for item in result.missing}


def test_without_anything_the_library_and_the_driver_are_named(machine: Path) -> None:
    found = reasons()
    assert "openvino package (not installed)" in found["libopenvino_c.so"]
    assert str(machine / "accel") in found["NPU driver"]
    assert "does not exist" in found["NPU driver"]


def test_a_driver_folder_without_an_accelerator_is_told_apart(machine: Path) -> None:
    (machine / "accel").mkdir()
    assert "is empty" in reasons()["NPU driver"]
    (machine / "accel" / "accel0").touch()
    assert "NPU driver" not in reasons()


def test_the_library_of_the_openvino_package_is_found(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = machine / "openvino" / "libs"
    folder.mkdir(parents=True)
    (folder / "libopenvino_c.so.2641").touch()
    monkeypatch.setattr(discovery, "_package_folder", lambda: machine / "openvino")
    assert discovery.find_openvino() == folder / "libopenvino_c.so.2641"
    assert "libopenvino_c.so" not in reasons()


def test_a_toolkit_folder_is_searched(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = machine / "runtime" / "lib" / "intel64"
    folder.mkdir(parents=True)
    (folder / "libopenvino_c.so").touch()
    monkeypatch.setenv("INTEL_OPENVINO_DIR", str(machine))
    assert discovery.find_openvino() == folder / "libopenvino_c.so"


def test_where_all_is_there_it_says_that_it_can_not_run_models(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "openvino" / "libs").mkdir(parents=True)
    (machine / "openvino" / "libs" / "libopenvino_c.so").touch()
    monkeypatch.setattr(discovery, "_package_folder", lambda: machine / "openvino")
    (machine / "accel").mkdir()
    (machine / "accel" / "accel0").touch()
    assert list(reasons()) == ["execution support"]


def test_opening_a_device_is_refused() -> None:
    with pytest.raises(ProviderError, match="cannot run models on it yet"):
        NpuProvider().open(Device("npu", "0", DeviceKind.NPU, "NPU", "Intel"), {})


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("npu"), NpuProvider)
