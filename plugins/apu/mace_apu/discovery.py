"""Where MediaTek's Neuron Adapter library is; nothing is loaded."""

from __future__ import annotations

import mmap
import os
import platform
import struct
from pathlib import Path

from mace_core.provider import find_library

ENVIRONMENT = ("MACE_NEURON_LIB_DIR", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

ADAPTER_NAMES = (
    "libneuronusdk_adapter.mtk.so",
    "libneuronusdk_adapter.9.mtk.so",
    "libneuronusdk_adapter.10.mtk.so",
    "libneuronusdk_adapter.so",
    "libneuron_adapter_mgvi.so",
    "libneuron_adapter.so",
)
"""Names on MediaTek's devices, the most capable first."""

STAND_IN_MARKER = "neuron_stand_in_marker"
"""A symbol of the library that the tests build in the place of MediaTek's, and of no other."""

_ELF_MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm", 3: "x86"}
_ELF_HEADER = struct.Struct("<4sBB12xH")


def find_adapter() -> Path | None:
    """The adapter library, or None."""
    return find_library(ADAPTER_NAMES, directories=folders())


def find_in(folder: Path) -> Path | None:
    """The adapter library in one folder, or None."""
    return next((folder / name for name in ADAPTER_NAMES if (folder / name).is_file()), None)


def folders() -> list[Path]:
    """Folders looked into before the system's own."""
    given = os.environ.get("MACE_NEURON_LIB_DIR")
    return [Path(given)] if given else []


def searched() -> str:
    """Everything that was looked at, as text for a message."""
    given = os.environ.get("MACE_NEURON_LIB_DIR")
    first = f"MACE_NEURON_LIB_DIR={given}" if given else "MACE_NEURON_LIB_DIR (not set)"
    return f"{first} and the system's library folders"


def why_unusable(library: Path) -> str | None:
    """Why a file cannot be this machine's adapter, told from its header; None if it can."""
    try:
        with library.open("rb") as file:
            header = file.read(_ELF_HEADER.size)
    except OSError as error:
        return f"{library} cannot be read: {error.strerror or error}"
    if len(header) < _ELF_HEADER.size or header[:4] != b"\x7fELF":
        return f"{library} is not a shared library (it has no ELF header)"
    number = _ELF_HEADER.unpack(header)[3]
    built_for = _ELF_MACHINES.get(number, f"machine {number}")
    here = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
    if built_for != here and not (built_for == "arm" and here.startswith("arm")):
        return f"{library} is for {built_for}, this process runs on {here}"
    return None


def is_stand_in(library: Path) -> bool:
    """Whether a file is the tests' library and no vendor's."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(STAND_IN_MARKER.encode()) >= 0
