"""The provider class: which OpenCL devices there are, what is missing for others, and opening one."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mace_core.errors import DeviceLostError, ProviderError, UsageError
from mace_core.provider import ApiVersion, Backend, Device, DeviceKind, ExecutionProvider, Missing, ProbeResult
from mace_core.tensor import DType, MemoryKind
from mace_opencl import discovery
from mace_opencl.version import VERSION

if TYPE_CHECKING:
    from mace_opencl.api import DeviceFacts, OpenCl

_DTYPES = frozenset({DType.FLOAT32, DType.INT64, DType.INT32, DType.UINT8, DType.INT8, DType.BOOL})


class OpenClProvider(ExecutionProvider):
    """GPUs and other devices through OpenCL; CPU runtimes such as PoCL are stand-ins and marked virtual."""

    name: ClassVar[str] = "opencl"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 3)
    options: ClassVar[Mapping[str, str]] = {
        "memory_limit_bytes": "device memory a session may use at most (default: all the device has)",
    }

    def probe(self) -> ProbeResult:
        loader = discovery.find_loader()
        drivers = discovery.find_drivers()
        missing = [*_loader_missing(loader), *_drivers_missing(drivers)]
        if discovery.binding_folder() is None:
            missing.append(Missing("pyopencl", "the Python package is not installed", "pip install pyopencl"))
        devices: tuple[Device, ...] = ()
        if loader is not None and discovery.binding_folder() is not None:
            devices, failure = _devices(loader)
            missing += failure if drivers else ()
        places = (*discovery.vendor_files(), *discovery.vendor_places())
        depends_on = [str(path) for path in places]
        depends_on += [str(driver.library) for driver in drivers if driver.library is not None]
        if loader is not None:
            depends_on.append(str(loader))
        return ProbeResult(
            devices=devices,
            missing=tuple(missing),
            depends_on=tuple(dict.fromkeys(depends_on)),
            environment=discovery.ENVIRONMENT,
        )

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"the opencl provider has no option '{unknown[0]}'; it knows {', '.join(self.options)}")
        limit = options.get("memory_limit_bytes")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or int(limit) <= 0):
            raise UsageError(f"the opencl option 'memory_limit_bytes' takes a positive whole number, not {limit!r}")
        try:
            from mace_opencl.backend import OpenClBackend
        except ImportError as error:
            raise _not_importable(device, error) from error
        try:
            return OpenClBackend(device, {"memory_limit_bytes": None if limit is None else int(limit)})
        except ImportError as error:
            raise _not_importable(device, error) from error


def _not_importable(device: Device, error: ImportError) -> ProviderError:
    return ProviderError(
        f"{device.qualified_name} cannot be opened, pyopencl does not load ({error}): pip install pyopencl",
        device=device.qualified_name,
    )


def _devices(loader: Path) -> tuple[tuple[Device, ...], list[Missing]]:
    """What the drivers offer; asked through the loader directly, which is much quicker than importing pyopencl."""
    from mace_opencl import api

    try:
        loaded = api.load()
        listed = api.list_devices(loaded)
    except (OSError, AttributeError, ProviderError, DeviceLostError) as error:
        return (), [
            Missing(
                loader.name,
                f"the OpenCL loader does not give a list of devices: {error}",
                "repair or reinstall the OpenCL runtime",
            )
        ]
    if not listed:
        return (), [
            Missing(
                "OpenCL device",
                "drivers are registered, but none of them offers a device",
                "check that the hardware is there and that this user may access it",
            )
        ]
    refusals = [_refusal(loaded, facts) for facts in listed]
    # by its number among all a device is found again when it is opened
    usable = (_device(index, facts) for index, facts in enumerate(listed) if refusals[index] is None)
    return tuple(usable), [refusal for refusal in refusals if refusal is not None]


def _refusal(loaded: OpenCl, facts: DeviceFacts) -> Missing | None:
    """Why a device is of no use: a runtime for CPUs brings its own compiler, which may be older than the processor."""
    if not facts.is_cpu:
        return None
    try:
        why = loaded.why_nothing_compiles(facts.handle)
    except (ProviderError, DeviceLostError) as error:  # it costs this device alone
        return Missing(facts.platform, f"{facts.name} cannot be used: {error}", "repair or reinstall that runtime")
    if not why:
        return None
    reason = f"its compiler takes no program for this processor ({facts.name}): {why}"
    return Missing(facts.platform, reason, "install a newer OpenCL runtime")


def _device(index: int, facts: DeviceFacts) -> Device:
    return Device(
        provider=OpenClProvider.name,
        id=str(index),
        kind=DeviceKind.CPU if facts.is_cpu else DeviceKind.GPU,
        name=facts.title,
        vendor=facts.vendor,
        memory_bytes=facts.memory_bytes,
        dtypes=_DTYPES,
        memory_kinds=(MemoryKind.DEVICE,),
        is_virtual=facts.is_cpu,
        properties={
            "platform": facts.platform,
            "driver": facts.driver,
            "compute units": str(facts.compute_units),
        },
    )


def _loader_missing(loader: object) -> list[Missing]:
    if loader is not None:
        return []
    return [
        Missing(
            "/".join(discovery.LOADER_NAMES),
            "the OpenCL loader was found neither in the loader's directories nor in the pyopencl package",
            "install it (Debian, Ubuntu: ocl-icd-libopencl1), or pip install pyopencl",
        )
    ]


def _drivers_missing(drivers: list[discovery.Driver]) -> list[Missing]:
    if not drivers:
        places = ", ".join(str(place) for place in discovery.vendor_places())
        return [
            Missing(
                "OpenCL driver",
                f"no driver is registered in {places}",
                "install the GPU's driver, or a CPU one: pip install 'mace-opencl[pocl]'",
            )
        ]
    return [
        Missing(driver.named, f"{driver.registered_in} names it, but there is no such library", "reinstall that driver")
        for driver in drivers
        if driver.library is None
    ]
