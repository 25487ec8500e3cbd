"""The provider class: what is missing for an NPU on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import ProviderError
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, Missing, ProbeResult
from mace_npu import discovery
from mace_npu.version import VERSION

NO_EXECUTION = f"mace-npu {VERSION} finds OpenVINO and the NPU but cannot run models on it yet"


class NpuProvider(ExecutionProvider):
    """Offers no devices in this version; says whether OpenVINO and an NPU's driver are there."""

    name: ClassVar[str] = "npu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        library = discovery.find_openvino()
        missing = [Missing("execution support", NO_EXECUTION, "use another device until a later version")]
        if library is None:
            missing.append(
                Missing(
                    discovery.LIBRARY_NAMES[0],
                    f"not found in {'; '.join(discovery.searched())}",
                    "pip install openvino",
                )
            )
        if not discovery.accelerators():
            missing.append(
                Missing(
                    "NPU driver",
                    f"no NPU is registered: {discovery.ACCELERATOR_FOLDER} "
                    + ("is empty" if discovery.ACCELERATOR_FOLDER.is_dir() else "does not exist"),
                    "where there is an NPU, install its driver (Intel: linux-npu-driver with the intel_vpu module)",
                )
            )
        watched = [str(discovery.ACCELERATOR_FOLDER), *map(str, discovery.folders())]
        if library is not None:
            watched.append(str(library))
        return ProbeResult(missing=tuple(missing), depends_on=tuple(watched), environment=discovery.ENVIRONMENT)

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        raise ProviderError(f"{device.qualified_name} cannot be opened: {NO_EXECUTION}", device=device.qualified_name)
