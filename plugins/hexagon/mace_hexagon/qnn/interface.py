"""QNN's table of functions: found, checked for its version, and only then read."""

from __future__ import annotations

import ctypes as c
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mace_core.errors import ProviderError
from mace_hexagon.qnn.errors import error_class
from mace_hexagon.qnn.types import Handle, InterfaceHeader, MemoryDescriptor, Notify, OpConfig, ProfileEventData, Tensor

SUPPORTED_MAJOR = 2
SUPPORTED_MINORS = range(36, 41)
"""QNN keeps source compatibility, not binary compatibility: only versions whose layout was checked are touched."""

SUCCESS = 0
_MAX_PROVIDERS = 8

_pointer = c.c_void_p
_numbers = c.POINTER(c.POINTER(c.c_uint64))

# Order of the table, with argument types for the functions that are called; all return an error code of 64 bits.
_TABLE: tuple[tuple[str, tuple[Any, ...] | None], ...] = (
    ("propertyHasCapability", (c.c_uint32,)),
    ("backendCreate", (Handle, _pointer, c.POINTER(Handle))),
    ("backendSetConfig", None),
    ("backendGetApiVersion", None),
    ("backendGetBuildId", (c.POINTER(c.c_char_p),)),
    ("backendRegisterOpPackage", (Handle, c.c_char_p, c.c_char_p, c.c_char_p)),
    ("backendGetSupportedOperations", None),
    ("backendValidateOpConfig", (Handle, OpConfig)),
    ("backendFree", (Handle,)),
    ("contextCreate", (Handle, Handle, _pointer, c.POINTER(Handle))),
    ("contextSetConfig", None),
    ("contextGetBinarySize", (Handle, c.POINTER(c.c_uint64))),
    ("contextGetBinary", (Handle, _pointer, c.c_uint64, c.POINTER(c.c_uint64))),
    ("contextCreateFromBinary", (Handle, Handle, _pointer, _pointer, c.c_uint64, c.POINTER(Handle), Handle)),
    ("contextFree", (Handle, Handle)),
    ("graphCreate", (Handle, c.c_char_p, _pointer, c.POINTER(Handle))),
    ("graphCreateSubgraph", None),
    ("graphSetConfig", None),
    ("graphAddNode", (Handle, OpConfig)),
    ("graphFinalize", (Handle, Handle, Handle)),
    ("graphRetrieve", (Handle, c.c_char_p, c.POINTER(Handle))),
    ("graphExecute", (Handle, c.POINTER(Tensor), c.c_uint32, c.POINTER(Tensor), c.c_uint32, Handle, Handle)),
    (
        "graphExecuteAsync",
        (Handle, c.POINTER(Tensor), c.c_uint32, c.POINTER(Tensor), c.c_uint32, Handle, Handle, Notify, _pointer),
    ),
    ("tensorCreateContextTensor", None),
    ("tensorCreateGraphTensor", (Handle, c.POINTER(Tensor))),
    ("logCreate", (_pointer, c.c_uint32, c.POINTER(Handle))),
    ("logSetLogLevel", None),
    ("logFree", (Handle,)),
    ("profileCreate", (Handle, c.c_uint32, c.POINTER(Handle))),
    ("profileSetConfig", None),
    ("profileGetEvents", (Handle, _numbers, c.POINTER(c.c_uint32))),
    ("profileGetSubEvents", (c.c_uint64, _numbers, c.POINTER(c.c_uint32))),
    ("profileGetEventData", (c.c_uint64, c.POINTER(ProfileEventData))),
    ("profileGetExtendedEventData", None),
    ("profileFree", (Handle,)),
    ("memRegister", (Handle, c.POINTER(MemoryDescriptor), c.c_uint32, c.POINTER(Handle))),
    ("memDeRegister", (c.POINTER(Handle), c.c_uint32)),
    ("deviceGetPlatformInfo", None),
    ("deviceFreePlatformInfo", None),
    ("deviceGetInfrastructure", (c.POINTER(Handle),)),
    ("deviceCreate", (Handle, _pointer, c.POINTER(Handle))),
    ("deviceSetConfig", None),
    ("deviceGetInfo", None),
    ("deviceFree", (Handle,)),
    ("signalCreate", None),
    ("signalSetConfig", None),
    ("signalTrigger", None),
    ("signalFree", None),
    ("errorGetMessage", (c.c_uint64, c.POINTER(c.c_char_p))),
)


class CoreVersion(NamedTuple):
    """Version of QNN's core API."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Interface:
    """One backend library's functions.

    Attributes:
        origin: the library's path, for messages.
        name: what the library calls itself (``HTP_QTI_AISW``).
        version: its core API's version.
        lock: held during calls that depend on the library's state, which belongs to the process.
        devices: what is open of it.
        packages: op packages that the library loaded, with their providers' names and digests of their content.
        selected: the device whose target the library compiles for at present.
    """

    def __init__(self, origin: str, header: InterfaceHeader) -> None:
        """``header`` stands in the library's memory, the table right behind it.

        Raises:
            ProviderError: for a core API this binding was not made for; the table is not read then.
        """
        core = header.version.core
        self.lock = threading.RLock()
        self.selected: object = None
        self.devices: weakref.WeakSet[Any] = weakref.WeakSet()
        self.packages: dict[Path, tuple[str, str]] = {}
        self.origin = origin
        self.name = (header.name or b"").decode("utf-8", "replace")
        self.version = CoreVersion(core.major, core.minor, core.patch)
        if core.major != SUPPORTED_MAJOR or core.minor not in SUPPORTED_MINORS:
            known = f"{SUPPORTED_MAJOR}.{SUPPORTED_MINORS[0]} to {SUPPORTED_MAJOR}.{SUPPORTED_MINORS[-1]}"
            raise ProviderError(
                f"{origin} has version {self.version} of QNN's core API, and mace-hexagon knows {known}: QNN's "
                "structures change between versions, so it is not used; install a QAIRT release with one of these "
                "(pip install onnxruntime-qnn==2.7.0) or a newer mace-hexagon"
            )
        start = c.addressof(header) + c.sizeof(InterfaceHeader)
        addresses = (c.c_void_p * len(_TABLE)).from_address(start)
        self._functions: dict[str, Callable[..., int]] = {}
        for (name, arguments), address in zip(_TABLE, addresses, strict=True):
            if arguments is not None and address:
                self._functions[name] = c.CFUNCTYPE(c.c_uint64, *arguments)(address)

    def has(self, function: str) -> bool:
        """Whether the library offers ``function``."""
        return function in self._functions

    def code(self, function: str, *arguments: Any) -> int:
        """Call and return the error code.

        Raises:
            ProviderError: if the library lacks the function.
        """
        found = self._functions.get(function)
        if found is None:
            raise ProviderError(f"{self.origin} offers no {function}")
        return found(*arguments)

    def message(self, code: int) -> str:
        """QNN's text for an error code."""
        text = c.c_char_p()
        if self.has("errorGetMessage") and self.code("errorGetMessage", code & 0xFFFF, c.byref(text)) == SUCCESS:
            return (text.value or b"").decode("utf-8", "replace")
        return f"QNN error {code} (0x{code:x})"

    def error(self, code: int, doing: str, details: str = "", *, device: str | None = None) -> ProviderError:
        """The exception for an error code: ``doing`` is what was tried, ``details`` what the library logged."""
        message = self.message(code)
        more = f" ({details})" if details else ""
        return error_class(message)(f"QNN could not {doing}: {message}{more}", device=device)


def load(path: Path) -> Interface:
    """Load a QNN backend library and check its version.

    Raises:
        ProviderError: if it cannot be loaded, is not a QNN library or has an unknown version.
    """
    try:
        library = c.CDLL(str(path))
    except OSError as error:
        raise ProviderError(f"{path} cannot be loaded: {error}") from None
    get_providers = getattr(library, "QnnInterface_getProviders", None)
    if get_providers is None:
        raise ProviderError(f"{path} is not a QNN backend library: it has no QnnInterface_getProviders")
    return from_providers(str(path), get_providers)


def from_providers(origin: str, get_providers: Callable[..., int]) -> Interface:
    """The interface that a library's ``QnnInterface_getProviders`` hands out.

    Raises:
        ProviderError: if there is none, or its version is unknown.
    """
    providers = c.POINTER(c.POINTER(InterfaceHeader))()
    count = c.c_uint32()
    code = get_providers(c.byref(providers), c.byref(count))
    if code != SUCCESS or not 0 < count.value <= _MAX_PROVIDERS:
        raise ProviderError(f"{origin} names {count.value} QNN interfaces (error code {code}); one was expected")
    failures: list[str] = []
    for index in range(count.value):
        try:
            return Interface(origin, providers[index].contents)
        except ProviderError as error:
            failures.append(str(error))
    raise ProviderError("; ".join(failures))
