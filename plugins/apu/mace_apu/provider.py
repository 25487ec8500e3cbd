"""The provider class: what is missing for a MediaTek APU on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from mace_apu import discovery
from mace_apu.version import VERSION
from mace_core.provider import ApiVersion, DetectionProvider, Missing


class ApuProvider(DetectionProvider):
    """Offers no devices in this version; says whether MediaTek's Neuron Adapter is there."""

    name: ClassVar[str] = "apu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 1)
    limitation: ClassVar[str] = f"mace-apu {VERSION} finds the Neuron Adapter but cannot run models with it yet"
    environment: ClassVar[tuple[str, ...]] = discovery.ENVIRONMENT

    def detect(self) -> tuple[list[Missing], list[Path]]:
        library = discovery.find_adapter()
        if library is not None:
            return [], [library]
        names = discovery.ADAPTER_NAMES
        adapter = Missing(
            names[0],
            f"neither it nor {', '.join(names[1:])} was found in {discovery.searched()}",
            "it is part of the system of MediaTek devices; if it is elsewhere, set MACE_NEURON_LIB_DIR",
        )
        return [adapter], discovery.folders()
