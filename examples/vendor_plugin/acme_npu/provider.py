"""What the entry point names: describes the simulated device and opens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from acme_npu import __version__
from acme_npu.backend import AcmeBackend
from acme_npu.memory import DEFAULT_MEMORY_BYTES
from mace_core.errors import UsageError
from mace_core.provider import ApiVersion, Device, DeviceKind, ExecutionProvider, Missing, ProbeResult
from mace_core.tensor import DType, MemoryKind


class AcmeProvider(ExecutionProvider):
    """The ACME accelerator.  No chip exists, so the only device is its simulator, and it is marked virtual."""

    name: ClassVar[str] = "acme"
    vendor: ClassVar[str] = "ACME (example)"
    version: ClassVar[str] = __version__
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 3)
    options: ClassVar[Mapping[str, str]] = {
        "memory_bytes": f"device memory the simulator has (default {DEFAULT_MEMORY_BYTES})",
        "largest_bucket": "sizes up to this are padded to powers of two (default 0: each is compiled for as it is)",
    }

    def probe(self) -> ProbeResult:
        simulator = Device(
            provider=self.name,
            id="sim0",
            kind=DeviceKind.NPU,
            name="ACME NPU simulator",
            vendor="ACME (example)",
            memory_bytes=DEFAULT_MEMORY_BYTES,
            dtypes=frozenset({DType.FLOAT32}),
            memory_kinds=(MemoryKind.DEVICE,),
            is_virtual=True,
        )
        chip = Missing(
            "ACME NPU", "there is no such chip: this provider is an example", "name 'acme:sim0' to use its simulator"
        )
        return ProbeResult(devices=(simulator,), missing=(chip,))

    def open(self, device: Device, options: Mapping[str, object]) -> AcmeBackend:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"the acme provider has no option '{unknown[0]}'; it knows {', '.join(self.options)}")
        memory_bytes = _whole_number(options, "memory_bytes", DEFAULT_MEMORY_BYTES, least=1)
        return AcmeBackend(device, memory_bytes, _whole_number(options, "largest_bucket", 0, least=0))


def _whole_number(options: Mapping[str, object], name: str, default: int, *, least: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"the acme option '{name}' takes a whole number of at least {least}, not {value!r}")
    return value
