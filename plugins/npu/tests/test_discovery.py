"""What the probe reports; nothing of OpenVINO is imported for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mace_npu.openvino import discovery
from mace_npu.provider import NpuProvider

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import Device, DeviceKind

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where Linux lists devices")


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without OpenVINO, an NPU or a GPU."""
    monkeypatch.setattr(discovery, "package_folder", lambda: None)
    monkeypatch.setattr(discovery, "ACCELERATORS", tmp_path / "accel")
    monkeypatch.setattr(discovery, "GPUS", tmp_path / "drm")
    return tmp_path


@pytest.fixture
def package(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OpenVINO with its plugins for Intel's units."""
    folder = machine / "openvino"
    (folder / "libs").mkdir(parents=True)
    for name in ("intel_npu", "intel_cpu", "intel_gpu"):
        (folder / "libs" / f"libopenvino_{name}_plugin.so").touch()
    monkeypatch.setattr(discovery, "package_folder", lambda: folder)
    return folder


def register(folder: Path, name: str, vendor: str) -> None:
    (folder / name / "device").mkdir(parents=True)
    (folder / name / "device" / "vendor").write_text(f"{vendor}\n")


def devices() -> dict[str, Device]:
    return {device.id: device for device in NpuProvider().probe().devices if device.id.startswith("openvino")}


def reasons() -> dict[str, str]:
    return {item.what: item.reason for item in NpuProvider().probe().missing}


def test_without_anything_the_package_and_the_npu_are_named(machine: Path) -> None:
    assert not devices()
    assert "not installed" in reasons()["openvino"]
    assert "does not exist" in reasons()["Intel NPU"]


def test_an_openvino_that_is_too_old_is_a_reason(machine: Path, package: Path) -> None:
    (machine / "openvino-2023.3.0.dist-info").mkdir()
    assert not devices()
    assert "OpenVINO 2023.3 in" in reasons()["openvino"]
    assert "is older than 2024.4" in reasons()["openvino"]


@pytest.mark.parametrize("name", ["openvino-2026.4.1.dist-info", "openvino-dev.dist-info"])
def test_an_openvino_that_is_new_or_tells_no_version_is_used(machine: Path, package: Path, name: str) -> None:
    (machine / name).mkdir()
    assert "openvino-cpu" in devices()


@pytest.mark.parametrize(
    ("content", "reason"),
    [("raise OSError('libopenvino.so is missing')", "libopenvino.so is missing"), ("", "no attribute")],
)
def test_an_openvino_that_cannot_be_imported_is_a_reason(tmp_path: Path, content: str, reason: str) -> None:
    """In another process: this one may have OpenVINO already."""
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text(content)
    code = (
        "from mace_core.errors import ProviderError\n"
        "from mace_npu.provider import NpuProvider\n"
        "provider = NpuProvider()\n"
        "device = next(each for each in provider.probe().devices if each.id == 'openvino-cpu')\n"
        "try:\n    provider.open(device, {})\n"
        "except ProviderError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert reason in done.stdout
    assert "install it anew: pip install" in done.stdout


def test_an_accelerator_of_another_vendor_is_no_intel_npu(machine: Path, package: Path) -> None:
    register(machine / "accel", "accel0", "0x1ed5")
    assert "lists no Intel accelerator" in reasons()["Intel NPU"]
    assert "openvino-npu" not in devices()


def test_an_npu_is_a_real_device(machine: Path, package: Path) -> None:
    register(machine / "accel", "accel0", "0x8086")
    found = devices()["openvino-npu"]
    assert found.kind is DeviceKind.NPU
    assert not found.is_virtual
    assert "Intel NPU" not in reasons()


def test_an_npu_without_openvino_is_not_offered(machine: Path) -> None:
    register(machine / "accel", "accel0", "0x8086")
    assert not devices()
    assert "openvino" in reasons()


def test_processor_and_gpu_are_stand_ins_and_say_so(machine: Path, package: Path) -> None:
    register(machine / "drm", "renderD128", "0x8086")
    found = devices()
    assert found.keys() == {"openvino-cpu", "openvino-gpu"}
    for device in found.values():
        assert device.is_virtual
        assert "stand-in" in device.name


def test_a_gpu_of_another_vendor_is_not_offered(machine: Path, package: Path) -> None:
    register(machine / "drm", "renderD128", "0x10de")
    assert devices().keys() == {"openvino-cpu"}


def test_the_probe_imports_no_openvino() -> None:
    code = (
        "import sys; from mace_npu.provider import NpuProvider; NpuProvider().probe(); print('openvino' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"openvino_performance": "fast"}, "one of latency, throughput, not 'fast'"),
        ({"openvino_precision": 16}, "one of float32, float16, bfloat16, not 16"),
        ({"openvino_threads": 0}, "a number from 1 on, not 0"),
        ({"openvino_threads": True}, "a number from 1 on, not True"),
        ({"precision": "float16"}, "has no option 'precision'; it knows openvino_performance"),
    ],
)
def test_wrong_options_are_told(package: Path, options: dict[str, object], message: str) -> None:
    device = devices()["openvino-cpu"]
    with pytest.raises(UsageError, match=message):
        NpuProvider().open(device, options)


def test_threads_are_for_the_processor(machine: Path, package: Path) -> None:
    register(machine / "accel", "accel0", "0x8086")
    with pytest.raises(UsageError, match="is for openvino-cpu, not for openvino-npu"):
        NpuProvider().open(devices()["openvino-npu"], {"openvino_threads": 2})


def test_a_device_whose_openvino_has_gone_is_refused(
    machine: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = devices()["openvino-cpu"]
    monkeypatch.setattr(discovery, "package_folder", lambda: None)
    with pytest.raises(ProviderError, match="the openvino package is not installed; pip install"):
        NpuProvider().open(device, {})


def test_a_device_of_no_driver_is_refused() -> None:
    with pytest.raises(UsageError, match="no driver 'tpu' is installed"):
        NpuProvider().open(Device("npu", "tpu-0", DeviceKind.NPU, "TPU", "?"), {})


def test_the_policy_for_throughput_is_handed_to_openvino() -> None:
    assert NpuProvider.policy_options["throughput"]["openvino_performance"] == "throughput"
