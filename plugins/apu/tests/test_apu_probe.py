"""mace-apu looks for MediaTek's Neuron Adapter and says where; it offers no devices in this version."""

from __future__ import annotations

from pathlib import Path

import pytest
from mace_apu import discovery
from mace_apu.provider import ApuProvider

from mace_core.discovery.entry_points import Switches
from mace_core.errors import ProviderError
from mace_core.provider import Device, DeviceKind, Registry


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the adapter, whose user names ``tmp_path`` as its folder."""
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    monkeypatch.setattr("mace_core.provider.libraries._system_directories", tuple)
    return tmp_path


def test_without_the_adapter_every_name_is_told(machine: Path) -> None:
    result = ApuProvider().probe()
    assert result.devices == ()
    (item,) = [item for item in result.missing if item.what == discovery.ADAPTER_NAMES[0]]
    for name in discovery.ADAPTER_NAMES[1:]:
        assert name in item.reason
    assert str(machine) in item.reason
    assert item.hint


def test_the_most_capable_adapter_is_preferred(machine: Path) -> None:
    for name in reversed(discovery.ADAPTER_NAMES):
        (machine / name).touch()
        assert discovery.find_adapter() == machine / name


def test_with_the_adapter_it_says_that_it_can_not_run_models(machine: Path) -> None:
    (machine / "libneuron_adapter.so").touch()
    result = ApuProvider().probe()
    assert result.devices == ()
    assert [item.what for item in result.missing] == ["execution support"]
    assert result.depends_on == (str(machine / "libneuron_adapter.so"),)


def test_opening_a_device_is_refused() -> None:
    with pytest.raises(ProviderError, match="cannot run models with it yet"):
        ApuProvider().open(Device("apu", "0", DeviceKind.APU, "APU", "MediaTek"), {})


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("apu"), ApuProvider)
