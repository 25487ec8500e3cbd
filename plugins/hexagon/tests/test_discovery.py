"""mace-hexagon finds Qualcomm's QNN libraries, says where it looked and what did not fit, and loads nothing to know."""

from __future__ import annotations

import platform
import struct
import sys
from pathlib import Path

import pytest
from mace_hexagon import discovery
from mace_hexagon.provider import HexagonProvider

from mace_core.discovery.entry_points import Switches
from mace_core.errors import DeviceNotFoundError, ProviderError, UsageError
from mace_core.provider import Device, DeviceKind, Registry, find_device

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="library names of Linux")

X86_64, AARCH64 = 62, 183
EMULATED = Device("hexagon", "v75", DeviceKind.DSP, "HTP", "Qualcomm")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An x86-64 machine without QNN."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))  # what is feigned here is nobody else's finding
    for name in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    monkeypatch.setattr(discovery, "_package_folder", lambda: None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return tmp_path


def library(folder: Path, machine: int = X86_64) -> Path:
    """A file with the header of a shared library, and nothing behind it: loading it would fail."""
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack("<4sBB10xHH", b"\x7fELF", 2, 1, 3, machine)
    (folder / "libQnnHtp.so").write_bytes(header.ljust(64, b"\0"))
    return folder / "libQnnHtp.so"


def test_without_the_library_every_place_looked_at_is_named() -> None:
    result = HexagonProvider().probe()
    assert result.devices == ()
    (item,) = result.missing
    for place in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "onnxruntime-qnn", "system"):
        assert place in item.reason
    assert "pip install mace-hexagon[sdk]" in item.hint


def test_the_places_are_searched_in_order(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = library(machine / "system")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(machine / "system"))
    assert discovery.search().library == system
    package = library(machine / "package")
    monkeypatch.setattr(discovery, "_package_folder", lambda: machine / "package")
    assert discovery.search().library == package
    sdk = library(machine / "sdk" / "lib" / "x86_64-linux-clang")
    library(machine / "sdk" / "lib" / "aarch64-android")
    monkeypatch.setenv("QNN_SDK_ROOT", str(machine / "sdk"))
    assert discovery.search().library == sdk
    chosen = library(machine / "chosen")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    assert discovery.search().library == chosen


def test_a_library_of_another_architecture_is_passed_over_and_reported(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = library(machine / "chosen", AARCH64)
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    right = library(machine / "package")
    monkeypatch.setattr(discovery, "_package_folder", lambda: machine / "package")
    found = discovery.search()
    assert found.library == right
    (item,) = found.missing
    assert item.what == str(wrong)
    assert "is for aarch64, this process runs on x86_64" in item.reason


def test_a_file_that_is_no_library_is_reported(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "libQnnHtp.so").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine))
    assert "no ELF header" in HexagonProvider().probe().missing[0].reason


def test_a_pc_offers_emulated_devices_and_targets_to_compile_for(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = library(machine / "chosen")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    result = HexagonProvider().probe()
    emulated = {device.id: device for device in result.devices if device.can_execute}
    assert list(emulated) == ["v68", "v69", "v73", "v75", "v79", "v81"]
    assert all(device.is_virtual for device in result.devices)
    assert "sm8650" in {device.id for device in result.devices if not device.can_execute}
    (item,) = result.missing
    assert "emulates it" in item.reason
    assert str(path) in result.depends_on


def test_a_folder_given_as_an_option_brings_its_devices(machine: Path) -> None:
    library(machine / "chosen")
    assert find_device("hexagon:v75", options={"library_dir": str(machine / "chosen")}).id == "v75"
    with pytest.raises(DeviceNotFoundError, match="not found in"):
        find_device("hexagon:v75", refresh=True)
    with pytest.raises(UsageError, match="cannot be read"):
        find_device("hexagon:v75", options={"library_dir": str(machine / "elsewhere")})


def test_an_arm_machine_without_a_dsp_offers_none(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(machine / "chosen", AARCH64)
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(discovery, "has_dsp", lambda: False)
    result = HexagonProvider().probe()
    assert result.devices == ()
    assert "FastRPC" in result.missing[0].reason
    monkeypatch.setattr(discovery, "has_dsp", lambda: True)
    (device,) = HexagonProvider().probe().devices
    assert device.id == "htp"
    assert not device.is_virtual


def test_a_library_that_does_not_load_is_one_clear_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(machine / "chosen")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    with pytest.raises(ProviderError, match="cannot be loaded"):
        HexagonProvider().open(EMULATED, {})


def test_opening_without_a_library_says_what_is_missing() -> None:
    with pytest.raises(ProviderError, match=r"hexagon:v75 cannot be opened: libQnnHtp.so: not found in"):
        HexagonProvider().open(EMULATED, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, "no option 'speed'"),
        ({"precision": "int3"}, "one of fp16, float32"),
        ({"library_dir": "/no/such/folder"}, "cannot be read"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        HexagonProvider().open(EMULATED, options)


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("hexagon"), HexagonProvider)
