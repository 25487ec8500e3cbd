"""mace-opencl finds devices and says what a machine lacks for OpenCL; the Python binding is not imported for that."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mace_opencl import discovery
from mace_opencl.provider import OpenClProvider

from mace_core.discovery.entry_points import Switches
from mace_core.errors import ProviderError
from mace_core.provider import Device, DeviceKind, ProbeResult, Registry
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_opencl.api import DeviceFacts

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


def test_a_wheel_that_can_not_be_loaded_is_a_reason(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_opencl import api

    for name in ("libOpenCL.so.1", "libdriver.so"):
        (machine / "lib" / name).touch()
    (machine / "vendors" / "driver.icd").write_text("libdriver.so")
    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    api.load.cache_clear()
    result = OpenClProvider().probe()
    api.load.cache_clear()
    assert result.devices == ()
    assert "does not give a list of devices" in missing(result)["libOpenCL.so.1"]


def test_drivers_without_a_device_are_a_reason(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_opencl import api

    for name in ("libOpenCL.so.1", "libdriver.so"):
        (machine / "lib" / name).touch()
    (machine / "vendors" / "driver.icd").write_text("libdriver.so")
    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    monkeypatch.setattr(api, "load", lambda: None)
    monkeypatch.setattr(api, "list_devices", lambda functions: [])
    assert list(missing(OpenClProvider().probe())) == ["OpenCL device"]


def facts(name: str, kind: int) -> DeviceFacts:
    from mace_opencl.api import DeviceFacts

    return DeviceFacts(1, "platform", "OpenCL 3.0", name, "acme", "1.2", kind, 1 << 30, 4)


def test_cpu_runtimes_are_stand_ins_and_gpus_are_real(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_opencl import api

    (machine / "lib" / "libOpenCL.so.1").touch()
    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    found = [facts("gpu", api.DEVICE_TYPE_GPU), facts("processor", api.DEVICE_TYPE_CPU)]
    monkeypatch.setattr(api, "load", lambda: Compilers(""))
    monkeypatch.setattr(api, "list_devices", lambda functions: found)
    gpu, cpu = OpenClProvider().probe().devices
    assert (gpu.id, gpu.kind, gpu.is_virtual) == ("0", DeviceKind.GPU, False)
    assert (cpu.id, cpu.kind, cpu.is_virtual) == ("1", DeviceKind.CPU, True)
    assert (gpu.name, cpu.name) == ("gpu", "OpenCL on this CPU (processor)")
    assert gpu.memory_kinds == (MemoryKind.DEVICE,)
    assert gpu.properties["driver"] == "1.2"


class Compilers:
    """A loader whose devices say this of a program, or nothing."""

    def __init__(self, why: str) -> None:
        self.why = why

    def why_nothing_compiles(self, device: int) -> str:
        return self.why


def test_devices_keep_their_numbers_where_one_before_them_compiles_nothing(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_opencl import api

    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    (machine / "lib" / "libOpenCL.so.1").touch()
    old = dataclasses.replace(facts("old", api.DEVICE_TYPE_CPU), handle=1)
    new = dataclasses.replace(facts("new", api.DEVICE_TYPE_CPU), handle=2)
    loaded = Compilers("")
    monkeypatch.setattr(loaded, "why_nothing_compiles", {1: "unknown target CPU", 2: ""}.get)
    monkeypatch.setattr(api, "load", lambda: loaded)
    monkeypatch.setattr(api, "list_devices", lambda functions: [old, new])
    assert [(device.id, device.name) for device in OpenClProvider().probe().devices] == [
        ("1", "OpenCL on this CPU (new)")
    ]


def test_a_runtime_that_compiles_nothing_for_this_processor_is_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_opencl import api

    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    (machine / "lib" / "libOpenCL.so.1").touch()
    (machine / "lib" / "libpocl.so").touch()
    (machine / "vendors" / "pocl.icd").write_text("libpocl.so\n")
    monkeypatch.setattr(api, "load", lambda: Compilers("error: unknown target CPU 'generic'"))
    monkeypatch.setattr(api, "list_devices", lambda functions: [facts("processor", api.DEVICE_TYPE_CPU)])
    result = OpenClProvider().probe()
    assert result.devices == ()
    assert any("processor): error: unknown target CPU 'generic'" in reason for reason in missing(result).values())


def test_a_runtime_that_fails_costs_its_own_devices_alone(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_opencl import api

    def fails(device: int) -> str:
        raise ProviderError("making a context: CL_OUT_OF_RESOURCES", device="opencl:1")

    monkeypatch.setattr(discovery, "binding_folder", lambda: machine)
    for name in ("libOpenCL.so.1", "libpocl.so"):
        (machine / "lib" / name).touch()
    (machine / "vendors" / "pocl.icd").write_text("libpocl.so\n")
    loaded = Compilers("")
    monkeypatch.setattr(loaded, "why_nothing_compiles", fails)
    monkeypatch.setattr(api, "load", lambda: loaded)
    both = [facts("gpu", api.DEVICE_TYPE_GPU), facts("processor", api.DEVICE_TYPE_CPU)]
    monkeypatch.setattr(api, "list_devices", lambda functions: both)
    result = OpenClProvider().probe()
    assert [device.name for device in result.devices] == ["gpu"]
    assert any("processor cannot be used: making a context" in reason for reason in missing(result).values())


def test_a_device_is_refused_where_pyopencl_can_build_nothing_either() -> None:
    """The binding asks the same compilers in its own way."""
    cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed: pip install 'mace-opencl[pocl]'")
    from mace_opencl import api

    loaded = api.load()
    listed = api.list_devices(loaded)
    assert listed, "no OpenCL device is here at all: pip install 'mace-opencl[pocl]'"
    for each in listed:
        context = cl.Context([cl.Device.from_int_ptr(each.handle)])
        try:
            cl.Program(context, "__kernel void two(__global float *x) { x[0] = 2; }").build(cache_dir=False)
            builds = True
        except cl.RuntimeError:
            builds = False
        assert builds == (loaded.why_nothing_compiles(each.handle) == "")


def test_probing_imports_neither_pyopencl_nor_numba() -> None:
    code = (
        "import sys; from mace_opencl.provider import OpenClProvider; OpenClProvider().probe(); "
        "sys.exit(' '.join({'pyopencl', 'llvmlite', 'numba', 'onnx'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stderr.strip() == ""
    assert done.returncode == 0


def test_a_probe_keeps_its_answer_and_its_order(device: Device) -> None:
    first, second = OpenClProvider().probe(), OpenClProvider().probe()
    assert [(d.id, d.name) for d in first.devices] == [(d.id, d.name) for d in second.devices]
    assert [d.id for d in first.devices] == sorted({d.id for d in first.devices}, key=int)
    assert first.depends_on == second.depends_on


def test_it_is_found_through_its_entry_point() -> None:
    assert isinstance(Registry(Switches()).provider("opencl"), OpenClProvider)
