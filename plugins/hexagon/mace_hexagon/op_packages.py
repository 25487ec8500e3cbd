"""Op packages that the user names: checked, then handed to QNN, which keeps them for the rest of the process."""

from __future__ import annotations

import atexit
import ctypes as c
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.errors import UsageError
from mace_hexagon import discovery

if TYPE_CHECKING:
    from mace_hexagon.qnn.handles import QnnDevice
    from mace_hexagon.qnn.interface import Interface

PROVIDER = "HtpOpPackageInterfaceProvider"
"""Of packages built with `mace_hexagon.hvx`; those of the SDK's generator have another name each."""

HOST, PROCESSOR = "CPU", "HTP"
"""Where a package is loaded: for preparing graphs (and by the emulation), or on the HTP itself."""

_ENTRIES = ("qhpi_init", "op_pkg_init")
_ELF_HEADER = struct.Struct("<16sHH")
_HEXAGON = 164


@dataclass(frozen=True, slots=True)
class OpPackage:
    """A shared object with operators of one's own.

    Attributes:
        provider: the function through which QNN asks for its interface.
        target: `HOST` or `PROCESSOR`.
        digest: of the file's content.
    """

    path: Path
    provider: str
    target: str
    digest: str


def read_packages(given: object) -> tuple[OpPackage, ...]:
    """The value of the option ``op_packages``: ``PATH[:PROVIDER[:TARGET]]``, one or a sequence of them.

    Raises:
        UsageError: if one of them is not written so, or is not a shared object for its target.
    """
    items = [given] if isinstance(given, str | os.PathLike) else given
    if not isinstance(items, list | tuple):
        raise UsageError(f"the hexagon option 'op_packages' takes paths of shared objects, not {given!r}")
    return tuple(_read(item) for item in items)


def register(device: QnnDevice, package: OpPackage) -> None:
    """Let the library of an open device load a package, if it has not done so before.

    Raises:
        UsageError: if the file cannot be loaded, has not the function, or changed since it was loaded.
        ProviderError: if QNN refuses it.
    """
    known = device.interface.packages
    with device.interface.lock:
        this = (package.provider, package.digest)
        before = known.get(package.path)
        if before is not None and before != this:
            raise UsageError(
                f"the op package {package.path} was loaded before in another form, and QNN does not unload it; start a "
                "new process"
            )
        if this not in known.values():  # a copy at another path is the same
            if not known:
                atexit.register(_close_devices, device.interface)
            if package.target == HOST:
                _require_functions(package)
            texts = (os.fsencode(package.path), package.provider.encode(), package.target.encode())
            device.call(f"load the op package {package.path}", "backendRegisterOpPackage", device.backend, *texts)
            known[package.path] = this


def _close_devices(interface: Interface) -> None:
    """QNN unloads the packages with its last backend; when the process takes the libraries down, that is too late."""
    for device in list(interface.devices):
        device.close()


def _read(item: object) -> OpPackage:
    if not isinstance(item, str | os.PathLike) or "\0" in os.fspath(item):
        raise UsageError(f"the hexagon option 'op_packages' takes paths of shared objects, not {item!r}")
    text, *words = os.fspath(item).split(":")
    provider, target = (*words, *(PROVIDER, HOST)[len(words) :])[:2] if len(words) <= 2 else ("", "")
    if not text or not provider or target not in (HOST, PROCESSOR):
        raise UsageError(
            f"the hexagon option 'op_packages' takes PATH, PATH:PROVIDER or PATH:PROVIDER:TARGET with the target "
            f"{HOST} or {PROCESSOR}, not {item!r}"
        )
    path = Path(text).absolute()
    problem = discovery.why_unusable(path) if target == HOST else _why_not_for_hexagon(path)
    if problem is not None:
        raise UsageError(f"the hexagon option 'op_packages' does not fit: {problem}")
    return OpPackage(path, provider, target, hashlib.sha256(path.read_bytes()).hexdigest())


def _why_not_for_hexagon(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            header = file.read(_ELF_HEADER.size)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    if len(header) < _ELF_HEADER.size or header[:4] != b"\x7fELF" or _ELF_HEADER.unpack(header)[2] != _HEXAGON:
        return f"{path} is not a shared library for Hexagon"
    return None


def _require_functions(package: OpPackage) -> None:
    """QNN crashes on some packages without them."""
    try:
        library = c.CDLL(str(package.path))
    except OSError as error:
        hint = "; link it with libQnnHtp.so, as python -m mace_hexagon.hvx does" if "symbol" in str(error) else ""
        raise UsageError(f"the op package {package.path} cannot be loaded: {error}{hint}") from None
    for names in ((package.provider,), _ENTRIES):
        if not any(hasattr(library, name) for name in names):
            raise UsageError(f"the op package {package.path} has no function {' or '.join(names)}")
