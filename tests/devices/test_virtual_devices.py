"""Stand-ins, emulations and simulations over all providers that are installed: named as such, and only by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mace_core.errors import DeviceNotFoundError
from mace_core.provider import Device, DeviceKind, libraries
from mace_core.provider.inventory import Inventory, inventory
from mace_core.provider.registry import default_registry
from mace_core.scheduler.planning.policy import POLICIES
from mace_core.session import Session
from mace_core.testing.network import NetworkBuilder

VENDORS = ("apu", "hexagon", "npu", "opencl")
MARKER = b"\x7fELF\x02\x01" + b"\0" * 12 + b"\x3e\0" + b"neuron_stand_in_marker"
"""What the probe of apu reads: the header of a library for this machine, and the name that only the stand-in has."""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inventory:
    """The devices where every stand-in that has files only is there: MediaTek's and Rockchip's are put there."""
    (tmp_path / "libneuron_adapter.so").write_bytes(MARKER)
    python = tmp_path / "rknn" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    (tmp_path / "rknn" / "lib" / "python3.11" / "site-packages" / "rknn").mkdir(parents=True)
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    monkeypatch.setenv("MACE_RKNN_PYTHON", str(python))
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    return inventory(refresh=True)


def virtual(found: Inventory) -> list[Device]:
    return [device for device in found.devices if device.is_virtual]


def test_every_provider_of_hardware_has_a_virtual_device_here(found: Inventory) -> None:
    """Otherwise the tests below say nothing."""
    missing = set(VENDORS) - {device.provider for device in virtual(found)}
    optional = {"hexagon": "onnxruntime_qnn", "opencl": "pyopencl"}
    if any("takes no program for this processor" in each.reason for each in found.missing.get("opencl", ())):
        optional["opencl"] = "a runtime that knows this processor"
    assert not {name for name in missing if name not in optional or importlib.util.find_spec(optional[name])}


def test_their_names_say_what_they_are(found: Inventory) -> None:
    words = ("stand-in", "emulated", "simula", "on this CPU")
    names = [device.name for device in virtual(found) if device.can_execute]
    assert [name for name in names if not any(word in name for word in words)] == []


def test_none_is_chosen_by_itself(found: Inventory) -> None:
    assert {device.provider for device in found.real_devices} == {"cpu", "reference"}
    with Session(network(), cache=False) as session:
        session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
        assert session.explain().nodes_per_device.keys() == {"cpu:0"}


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_chooses_one(found: Inventory, policy: str) -> None:
    with Session(network(), policy=policy, cache=False) as session:
        session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
        assert session.explain().nodes_per_device.keys() == {"cpu:0"}
        assert not session.explain().virtual


@pytest.mark.parametrize("provider", VENDORS)
def test_the_name_of_a_provider_alone_never_means_one(found: Inventory, provider: str) -> None:
    held = [device for device in found.devices if device.provider == provider]
    if not held:
        pytest.skip(f"{provider} has no device here")
    with pytest.raises(DeviceNotFoundError, match="virtual devices, which have to be named in full"):
        Session(network(), devices=[provider], cache=False)


def test_what_the_devices_named_decline_goes_to_no_virtual_one(found: Inventory) -> None:
    """Fallback is to real devices alone: here the reference runs what the first, which is named, does not."""
    model = network("Erf")
    with Session(model, devices=["acme:sim0"], cache=False) as session:
        session.run({"x": np.zeros((1, 3, 8, 8), np.float32)})
        assert {name.partition(":")[0] for name in session.explain().nodes_per_device} <= {"acme", "cpu", "reference"}


def network(last: str = "Relu") -> onnx.ModelProto:
    net = NetworkBuilder("small", (1, 3, 8, 8), seed=1)
    return net.build(net.op(last, net.conv("x", 3, 4, 3)), (1, 4, 8, 8))


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of any vendor's is installed."""
    for variable in ("MACE_NEURON_LIB_DIR", "MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "MACE_RKNN_PYTHON", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path / "vendors"))
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    find_spec = importlib.util.find_spec
    hidden = {"openvino", "onnxruntime_qnn", "pyopencl"}

    def without(name: str, package: str | None = None) -> Any:
        return None if name in hidden else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    monkeypatch.setattr(libraries, "library_directories", list)
    yield


@pytest.mark.parametrize("provider", VENDORS)
def test_what_is_missing_is_told_with_where_it_was_looked_for_and_what_to_install(
    bare_machine: None, provider: str
) -> None:
    result = default_registry().provider(provider).probe()
    assert not [device for device in result.devices if device.kind is not DeviceKind.CPU]
    assert result.missing
    for item in result.missing:
        assert item.what
        assert item.reason, item
        assert any(word in item.hint for word in ("install", "set ", "system")), item
