"""The driver class: which units OpenVINO could use here, and opening one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import Backend, Device, DeviceKind, Missing, ProbeResult
from mace_core.tensor import DType
from mace_npu.driver import NpuDriver
from mace_npu.openvino import discovery

PERFORMANCE = {"latency": "LATENCY", "throughput": "THROUGHPUT"}
"""Values of the option and OpenVINO's hints."""

PRECISION = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""Values of the option and OpenVINO's hints; without one, each unit has its own (float16 on NPU and GPU)."""

DTYPES = frozenset(
    {DType.FLOAT32, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.BOOL}
)
HINT = "pip install mace-npu[openvino]"


class OpenVinoDriver(NpuDriver):
    """Intel's NPUs.  OpenVINO's processor and GPU are offered too, as stand-ins for one: by name only."""

    name: ClassVar[str] = "openvino"
    options: ClassVar[Mapping[str, str]] = {
        "performance": "what to be good at: latency (default: one answer soon) or throughput",
        "precision": "float32, float16 or bfloat16, to compute floats in (default: the unit's own; float32 on a CPU)",
        "threads": "threads of the CPU (default: OpenVINO's choice)",
    }
    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = {"throughput": {"performance": "throughput"}}

    def probe(self, options: Mapping[str, object]) -> ProbeResult:
        watched = [discovery.ACCELERATORS, discovery.GPUS]
        package = discovery.package_folder()
        devices: list[Device] = []
        missing: list[Missing] = []
        if package is None:
            missing.append(Missing("openvino", "the openvino package is not installed", HINT))
        elif old := discovery.why_too_old(package):
            missing.append(Missing("openvino", old, HINT))
            watched.append(package)
            package = None
        else:
            watched.append(package)
        npus = discovery.npus()
        if not npus:
            folder = discovery.ACCELERATORS
            state = "lists no Intel accelerator" if folder.is_dir() else "does not exist"
            missing.append(
                Missing(
                    "Intel NPU",
                    f"none is registered: {folder} {state}",
                    "where there is one, install its driver (linux-npu-driver with the intel_vpu module)",
                )
            )
        if package is not None:
            if npus and discovery.has_plugin(package, discovery.NPU):
                devices.append(_device(discovery.NPU, "Intel NPU", DeviceKind.NPU))
            if discovery.has_plugin(package, discovery.CPU):
                name = "OpenVINO on this CPU, a stand-in for an NPU"
                devices.append(_device(discovery.CPU, name, DeviceKind.CPU, is_virtual=True))
            if discovery.gpus() and discovery.has_plugin(package, discovery.GPU):
                name = "OpenVINO on this GPU, a stand-in for an NPU"
                devices.append(_device(discovery.GPU, name, DeviceKind.GPU, is_virtual=True))
        return ProbeResult(tuple(devices), tuple(missing), tuple(map(str, watched)), discovery.ENVIRONMENT)

    def check(self, options: Mapping[str, object]) -> None:
        _choice(options, "performance", PERFORMANCE)
        _choice(options, "precision", PRECISION)
        _threads(options)

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        unit = discovery.UNITS.get(device.id)
        if unit is None:
            raise UsageError(f"the npu provider knows no device '{device.id}'")
        settings = _settings(unit, options)
        if discovery.package_folder() is None:
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: the openvino package is not installed; {HINT}",
                device=device.qualified_name,
            )
        try:
            from mace_npu.openvino.backend import OpenVinoBackend  # imports OpenVINO
        except Exception as error:  # half an installation, a library that is missing, another package of that name
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: the openvino package in {discovery.package_folder()} "
                f"cannot be imported ({type(error).__name__}: {error}); install it anew: {HINT}",
                device=device.qualified_name,
            ) from None
        return OpenVinoBackend(device, unit.openvino, settings)


def _device(unit: discovery.Unit, name: str, kind: DeviceKind, *, is_virtual: bool = False) -> Device:
    return Device(
        provider="npu",
        id=unit.id,
        kind=kind,
        name=name,
        vendor="Intel" if not is_virtual else "OpenVINO",
        dtypes=DTYPES,
        is_virtual=is_virtual,
        properties={"openvino device": unit.openvino},
    )


def _settings(unit: discovery.Unit, options: Mapping[str, object]) -> dict[str, str]:
    """OpenVINO's properties for what the user asks for.

    Raises:
        UsageError: for a value an option cannot take.
    """
    performance = _choice(options, "performance", PERFORMANCE) or PERFORMANCE["latency"]
    precision = _choice(options, "precision", PRECISION)
    settings = {"PERFORMANCE_HINT": performance}
    if precision is None and unit is discovery.CPU:
        precision = PRECISION["float32"]  # else bfloat16 on processors that have it
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    threads = _threads(options)
    if threads is not None:
        if unit is not discovery.CPU:
            raise UsageError(f"the npu option 'openvino_threads' is for openvino-cpu, not for {unit.id}; leave it out")
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    return settings


def _threads(options: Mapping[str, object]) -> int | None:
    threads = options.get("threads")
    if threads is None:
        return None
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"the npu option 'openvino_threads' takes a number from 1 on, not {threads!r}")
    return threads


def _choice(options: Mapping[str, object], name: str, values: Mapping[str, str]) -> str | None:
    given = options.get(name)
    if given is None:
        return None
    if not isinstance(given, str) or given not in values:
        raise UsageError(f"the npu option 'openvino_{name}' is one of {', '.join(values)}, not {given!r}")
    return values[given]
