"""The provider class: what is missing for Hexagon on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import ProviderError
from mace_core.provider import ApiVersion, Backend, Device, ExecutionProvider, Missing, ProbeResult
from mace_hexagon import discovery
from mace_hexagon.version import VERSION

NO_EXECUTION = f"mace-hexagon {VERSION} finds the QNN libraries but can not run models with them yet"


class HexagonProvider(ExecutionProvider):
    """Offers no devices in this version; says whether QNN's HTP library is there."""

    name: ClassVar[str] = "hexagon"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(0, 1)

    def probe(self) -> ProbeResult:
        library = discovery.find_htp()
        missing = [Missing("execution support", NO_EXECUTION, "use another device until a later version")]
        if library is None:
            missing.append(
                Missing(
                    discovery.HTP_LIBRARY,
                    f"not found in {'; '.join(discovery.searched())}",
                    "install Qualcomm's AI runtime and set QNN_SDK_ROOT, or pip install onnxruntime-qnn, "
                    "or set MACE_QNN_LIB_DIR to the folder of the library",
                )
            )
        elif discovery.is_emulation():
            missing.append(
                Missing("Hexagon DSP", f"{library} emulates it on this x86 machine; there is no such unit here")
            )
        watched = [str(library)] if library is not None else [str(path) for path in discovery.folders()]
        return ProbeResult(missing=tuple(missing), depends_on=tuple(watched), environment=discovery.ENVIRONMENT)

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        raise ProviderError(f"{device.qualified_name} can not be opened: {NO_EXECUTION}", device=device.qualified_name)
