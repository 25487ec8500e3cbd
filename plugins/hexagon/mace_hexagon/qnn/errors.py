"""QNN's error codes as the contract's error classes."""

from __future__ import annotations

from mace_core.errors import (
    DeviceLostError,
    OutOfMemoryError,
    ProviderBugError,
    ProviderError,
    TransientError,
    UnsupportedError,
)

# Fragments of the names of QNN's error codes; the first that fits decides.
_CLASSES: tuple[tuple[str, type[ProviderError]], ...] = (
    ("MEM_ALLOC", OutOfMemoryError),
    ("OUT_OF_MEMORY", OutOfMemoryError),
    ("MEMORY_LIMIT", OutOfMemoryError),
    ("SYSTEM_COMMUNICATION", DeviceLostError),
    ("SSR", DeviceLostError),
    ("DEVICE_LOST", DeviceLostError),
    ("TIMED_OUT", TransientError),
    ("RESOURCE_UNAVAILABLE", TransientError),
    ("BUSY", TransientError),
    ("CREATE_FROM_BINARY", UnsupportedError),
    ("INCOMPATIBLE_BINARIES", UnsupportedError),
    ("BINARY", UnsupportedError),
    ("UNSUPPORTED", UnsupportedError),
    ("NOT_SUPPORTED", UnsupportedError),
    ("FINALIZE", UnsupportedError),
    ("CREATE_FAILED", UnsupportedError),
    ("INVALID_HANDLE", ProviderBugError),
    ("INVALID_ARGUMENT", ProviderBugError),
)


def error_class(message: str) -> type[ProviderError]:
    """The class for QNN's own message of a code (``QNN_COMMON_ERROR_MEM_ALLOC: …``)."""
    name = message.partition(":")[0]
    return next((found for fragment, found in _CLASSES if fragment in name), ProviderError)
