"""The provider class: what is missing for OpenCL on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import ProviderError
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, Missing, ProbeResult
from mace_opencl import discovery
from mace_opencl.version import VERSION

NO_EXECUTION = f"mace-opencl {VERSION} finds OpenCL drivers but can not run models on them yet"


class OpenClProvider(ExecutionProvider):
    """Offers no devices in this version; says what a machine has and lacks for OpenCL."""

    name: ClassVar[str] = "opencl"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(0, 1)

    def probe(self) -> ProbeResult:
        loader = discovery.find_loader()
        drivers = discovery.find_drivers()
        missing = [Missing("execution support", NO_EXECUTION, "use another device until a later version")]
        missing += [*_loader_missing(loader), *_drivers_missing(drivers)]
        if discovery.binding_folder() is None:
            missing.append(
                Missing("pyopencl", "the Python package is not installed", "pip install 'mace-opencl[runtime]'")
            )
        depends_on = [str(path) for path in (*discovery.vendor_files(), *discovery.vendor_places())]
        depends_on += [str(driver.library) for driver in drivers if driver.library is not None]
        if loader is not None:
            depends_on.append(str(loader))
        return ProbeResult(
            missing=tuple(missing),
            depends_on=tuple(dict.fromkeys(depends_on)),
            environment=discovery.ENVIRONMENT,
        )

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        raise ProviderError(f"{device.qualified_name} can not be opened: {NO_EXECUTION}", device=device.qualified_name)


def _loader_missing(loader: object) -> list[Missing]:
    if loader is not None:
        return []
    return [
        Missing(
            "/".join(discovery.LOADER_NAMES),
            "the OpenCL loader was found neither in the loader's directories nor in the pyopencl package",
            "install it (Debian, Ubuntu: ocl-icd-libopencl1), or pip install 'mace-opencl[runtime]'",
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
