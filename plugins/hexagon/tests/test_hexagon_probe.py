"""mace-hexagon looks for Qualcomm's QNN library and says where; it offers no devices in this version."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from mace_hexagon import discovery
from mace_hexagon.provider import HexagonProvider

from mace_core.errors import ProviderError
from mace_core.provider import Device, DeviceKind, Registry
from mace_core.provider.entry_points import Switches

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="library names of Linux")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without QNN."""
    for name in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    monkeypatch.setattr(discovery, "_package_folder", lambda: None)
    return tmp_path


def library(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "libQnnHtp.so").touch()
    return folder / "libQnnHtp.so"


def test_without_the_library_every_place_looked_at_is_named() -> None:
    result = HexagonProvider().probe()
    assert result.devices == ()
    (item,) = [item for item in result.missing if item.what == "libQnnHtp.so"]
    for place in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "onnxruntime-qnn", "system"):
        assert place in item.reason
    assert "pip install onnxruntime-qnn" in item.hint


def test_the_places_are_searched_in_order(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = library(machine / "system")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(machine / "system"))
    assert discovery.find_htp() == system
    package = library(machine / "package")
    monkeypatch.setattr(discovery, "_package_folder", lambda: machine / "package")
    assert discovery.find_htp() == package
    sdk = library(machine / "sdk" / "lib" / f"{platform.machine()}-linux-clang")
    library(machine / "sdk" / "lib" / "another-architecture")
    monkeypatch.setenv("QNN_SDK_ROOT", str(machine / "sdk"))
    assert discovery.find_htp() == sdk
    chosen = library(machine / "chosen")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    assert discovery.find_htp() == chosen


@pytest.mark.parametrize(("architecture", "emulated"), [("x86_64", True), ("aarch64", False)])
def test_a_library_on_a_pc_is_called_an_emulation(
    machine: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, emulated: bool
) -> None:
    path = library(machine / "chosen")
    monkeypatch.setenv("MACE_QNN_LIB_DIR", str(machine / "chosen"))
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    result = HexagonProvider().probe()
    assert result.devices == ()
    assert "libQnnHtp.so" not in [item.what for item in result.missing]
    assert any("emulates" in item.reason for item in result.missing) is emulated
    assert result.missing[0].what == "execution support"
    assert str(path) in result.depends_on


def test_opening_a_device_is_refused() -> None:
    with pytest.raises(ProviderError, match="can not run models with them yet"):
        HexagonProvider().open(Device("hexagon", "v75", DeviceKind.DSP, "HTP", "Qualcomm"), {})


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("hexagon"), HexagonProvider)
