"""mace-apu looks for MediaTek's Neuron Adapter and says where; nothing is loaded for that."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from mace_apu import discovery
from mace_apu.provider import ApuProvider

from mace_core.discovery.entry_points import Switches
from mace_core.errors import ProviderError, UsageError
from mace_core.provider import Device, DeviceKind, Registry


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the adapter, whose user names ``tmp_path`` as its folder."""
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    return tmp_path


def library(path: Path, machine: int, content: bytes = b"") -> Path:
    """A file that begins like a shared library for a machine."""
    path.write_bytes(struct.pack("<4sBB12xH", b"\x7fELF", 2, 1, machine) + b"\0" * 64 + content)
    return path


def here() -> int:
    """This machine's number in such a file."""
    with Path("/proc/self/exe").open("rb") as file:
        return int(struct.unpack("<18xH", file.read(20))[0])


def test_without_the_adapter_every_name_is_told(machine: Path) -> None:
    result = ApuProvider().probe()
    assert result.devices == ()
    (item,) = result.missing
    assert item.what == discovery.ADAPTER_NAMES[0]
    for name in discovery.ADAPTER_NAMES[1:]:
        assert name in item.reason
    assert str(machine) in item.reason
    assert item.hint


def test_the_most_capable_adapter_is_preferred(machine: Path) -> None:
    for name in reversed(discovery.ADAPTER_NAMES):
        (machine / name).touch()
        assert discovery.find_adapter() == machine / name


def test_an_adapter_is_a_real_device(machine: Path) -> None:
    found = library(machine / "libneuron_adapter.so", here())
    result = ApuProvider().probe()
    (device,) = result.devices
    assert (device.id, device.kind, device.is_virtual) == ("neuron", DeviceKind.APU, False)
    assert result.missing == ()
    assert result.depends_on == (str(found),)


def test_a_library_with_the_stand_ins_marker_is_virtual_and_named_so(machine: Path) -> None:
    library(machine / "libneuron_adapter.so", here(), b"neuron_stand_in_marker\0")
    result = ApuProvider().probe()
    (device,) = result.devices
    assert device.is_virtual
    assert "stand-in" in device.id
    assert "stand-in" in device.name
    assert [item.what for item in result.missing] == ["MediaTek APU"]


@pytest.mark.parametrize(("number", "reason"), [(8, "is for machine 8"), (0, "is for machine 0")])
def test_a_library_of_another_machine_is_told(machine: Path, number: int, reason: str) -> None:
    library(machine / "libneuron_adapter.so", number)
    result = ApuProvider().probe()
    assert result.devices == ()
    assert reason in result.missing[0].reason


def test_a_file_that_is_no_library_is_told(machine: Path) -> None:
    (machine / "libneuron_adapter.so").touch()
    result = ApuProvider().probe()
    assert result.devices == ()
    assert "is not a shared library" in result.missing[0].reason


def test_a_library_that_cannot_be_loaded_is_refused(machine: Path) -> None:
    library(machine / "libneuron_adapter.so", here())
    (device,) = ApuProvider().probe().devices
    with pytest.raises(ProviderError, match="cannot be loaded"):
        ApuProvider().open(device, {})


def test_a_device_whose_library_has_gone_is_refused() -> None:
    with pytest.raises(ProviderError, match=r"apu:neuron cannot be opened: no Neuron Adapter was found in MACE_"):
        ApuProvider().open(Device("apu", "neuron", DeviceKind.APU, "APU", "MediaTek"), {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"performance": "fast"}, "one of latency, low_power, sustained, boost, not 'fast'"),
        ({"precision": 16}, "one of float16, float32, not 16"),
        ({"library_dir": 3}, "takes a folder, not 3"),
        ({"library_dir": "/nowhere"}, "/nowhere has none of libneuronusdk_adapter"),
        ({"threads": 2}, "has no option 'threads'; it knows performance"),
    ],
)
def test_wrong_options_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ApuProvider().open(Device("apu", "neuron", DeviceKind.APU, "APU", "MediaTek"), options)


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("apu"), ApuProvider)
