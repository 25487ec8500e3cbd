"""The provider class: what is missing for a MediaTek APU on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_apu import discovery
from mace_apu.version import VERSION
from mace_core.errors import ProviderError
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, Missing, ProbeResult

NO_EXECUTION = f"mace-apu {VERSION} finds the Neuron Adapter but cannot run models with it yet"


class ApuProvider(ExecutionProvider):
    """Offers no devices in this version; says whether MediaTek's Neuron Adapter is there."""

    name: ClassVar[str] = "apu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        library = discovery.find_adapter()
        missing = [Missing("execution support", NO_EXECUTION, "use another device until a later version")]
        if library is None:
            missing.append(
                Missing(
                    discovery.ADAPTER_NAMES[0],
                    f"neither it nor {', '.join(discovery.ADAPTER_NAMES[1:])} was found in {discovery.searched()}",
                    "it is part of the system of MediaTek devices; if it is elsewhere, set MACE_NEURON_LIB_DIR",
                )
            )
        watched = [str(library)] if library is not None else [str(path) for path in discovery.folders()]
        return ProbeResult(missing=tuple(missing), depends_on=tuple(watched), environment=discovery.ENVIRONMENT)

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        raise ProviderError(f"{device.qualified_name} cannot be opened: {NO_EXECUTION}", device=device.qualified_name)
