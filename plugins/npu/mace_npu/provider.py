"""The provider class: what is missing for an NPU on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mace_core.provider import ApiVersion, DetectionProvider, Missing
from mace_npu import discovery
from mace_npu.version import VERSION


class NpuProvider(DetectionProvider):
    """Offers no devices in this version; says whether OpenVINO and an NPU's driver are there."""

    name: ClassVar[str] = "npu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 1)
    limitation: ClassVar[str] = f"mace-npu {VERSION} finds OpenVINO and the NPU but cannot run models on it yet"
    environment: ClassVar[tuple[str, ...]] = discovery.ENVIRONMENT

    def detect(self) -> tuple[list[Missing], list[Path]]:
        missing, watched = [], [discovery.ACCELERATOR_FOLDER, *discovery.folders()]
        library = discovery.find_openvino()
        if library is None:
            reason = f"not found in {'; '.join(discovery.searched())}"
            missing.append(Missing(discovery.LIBRARY_NAMES[0], reason, "pip install openvino"))
        else:
            watched.append(library)
        if not discovery.accelerators():
            folder = discovery.ACCELERATOR_FOLDER
            state = "is empty" if folder.is_dir() else "does not exist"
            missing.append(
                Missing(
                    "NPU driver",
                    f"no NPU is registered: {folder} {state}",
                    "where there is an NPU, install its driver (Intel: linux-npu-driver with the intel_vpu module)",
                )
            )
        return missing, watched
