"""The library's result codes as the contract's error classes."""

from __future__ import annotations

from mace_apu.neuron.constants import Result
from mace_core.errors import (
    DeviceLostError,
    OutOfMemoryError,
    ProviderBugError,
    ProviderError,
    TransientError,
    UnsupportedError,
)

_CLASSES: dict[int, type[ProviderError]] = {
    Result.OUT_OF_MEMORY: OutOfMemoryError,
    Result.RESOURCE_EXHAUSTED_PERSISTENT: OutOfMemoryError,
    Result.MISSED_DEADLINE_TRANSIENT: TransientError,
    Result.RESOURCE_EXHAUSTED_TRANSIENT: TransientError,
    Result.DEAD_OBJECT: DeviceLostError,
    Result.UNAVAILABLE_DEVICE: DeviceLostError,
    Result.BAD_DATA: UnsupportedError,
    Result.BAD_VERSION: UnsupportedError,
    Result.OP_FAILED: UnsupportedError,
    Result.UNMAPPABLE: ProviderError,
    Result.MISSED_DEADLINE_PERSISTENT: ProviderError,
    Result.INCOMPLETE: ProviderBugError,
    Result.UNEXPECTED_NULL: ProviderBugError,
    Result.BAD_STATE: ProviderError,
    Result.OUTPUT_INSUFFICIENT_SIZE: ProviderBugError,
}


def code_name(code: int) -> str:
    """``NEURON_BAD_DATA (4)``."""
    try:
        return f"NEURON_{Result(code).name} ({code})"
    except ValueError:
        return f"result code {code}, which is not one of the interface's"


def error(code: int, doing: str, device: str) -> ProviderError:
    """The error for a code that is not NO_ERROR; ``doing`` completes "cannot"."""
    return _CLASSES.get(code, ProviderError)(
        f"{device}: the Neuron Adapter cannot {doing}: it returns {code_name(code)}", device=device
    )
