"""Where Qualcomm's QNN libraries are and whether they fit this machine; nothing is loaded."""

from __future__ import annotations

import importlib.util
import os
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.provider import Missing, library_directories

ENVIRONMENT = ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

HTP_LIBRARY = "QnnHtp.dll" if sys.platform == "win32" else "libQnnHtp.so"
HINT = "pip install mace-hexagon[sdk], or set QNN_SDK_ROOT or MACE_QNN_LIB_DIR to a QAIRT release"

_DSP_NODES = ("fastrpc-cdsp", "fastrpc-cdsp-secure", "adsprpc-smd", "adsprpc-smd-secure")
_ELF_MACHINES = {62: "x86_64", 183: "aarch64", 40: "arm", 3: "x86", 164: "hexagon"}
_ELF_HEADER = struct.Struct("<4sBB12xH")


@dataclass(frozen=True, slots=True)
class Search:
    """What was found.

    Attributes:
        library: the HTP backend library that fits this machine, or None.
        missing: what was looked at in vain, and files that are there but do not fit.
        looked_at: files whose appearance or change makes the answer stale.
    """

    library: Path | None
    missing: tuple[Missing, ...]
    looked_at: tuple[Path, ...]


def search() -> Search:
    """Look into all folders in order; a library that does not fit is passed over and reported."""
    missing: list[Missing] = []
    looked_at: list[Path] = []
    for folder in (*folders(), *library_directories()):
        candidate = folder / HTP_LIBRARY
        if candidate in looked_at:
            continue
        looked_at.append(candidate)
        if not candidate.is_file():
            continue
        problem = why_unusable(candidate)
        if problem is None:
            return Search(candidate, tuple(missing), tuple(looked_at))
        missing.append(Missing(str(candidate), problem, HINT))
    missing.append(Missing(HTP_LIBRARY, f"not found in {'; '.join(searched())}", HINT))
    return Search(None, tuple(missing), tuple(looked_at))


def folders() -> list[Path]:
    """Folders looked into before the system's own, the user's choice first; they need not exist."""
    found: list[Path] = []
    if given := os.environ.get("MACE_QNN_LIB_DIR"):
        found.append(Path(given))
    if root := os.environ.get("QNN_SDK_ROOT"):
        found += sorted(Path(root, "lib").glob(f"{machine()}-*")) or [Path(root, "lib", f"{machine()}-*")]
    package = _package_folder()
    if package is not None:
        found += [package, package / "lib"]
    return found


def searched() -> Sequence[str]:
    """Everything that is looked at, as text for a message."""
    steps = []
    for variable in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT"):
        value = os.environ.get(variable)
        steps.append(f"{variable}={value}" if value else f"{variable} (not set)")
    package = _package_folder()
    steps.append(f"the onnxruntime-qnn package ({package or 'not installed'})")
    steps.append("the system's library folders")
    return steps


def why_unusable(library: Path) -> str | None:
    """Why a file cannot be this machine's QNN library, told from its header; None if it can."""
    try:
        with library.open("rb") as file:
            header = file.read(_ELF_HEADER.size)
    except OSError as error:
        return f"{library} cannot be read: {error.strerror or error}"
    if sys.platform == "win32":
        return None if header[:2] == b"MZ" else f"{library} is not a Windows library"
    if len(header) < _ELF_HEADER.size or header[:4] != b"\x7fELF":
        return f"{library} is not a shared library (it has no ELF header)"
    _, _, _, number = _ELF_HEADER.unpack(header)
    built_for = _ELF_MACHINES.get(number, f"machine {number}")
    if built_for != machine():
        return f"{library} is for {built_for}, this process runs on {machine()}"
    return None


def machine() -> str:
    """This machine's architecture, as the SDK names it."""
    return platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")


def is_emulation() -> bool:
    """Whether a QNN library on this machine could only emulate the DSP."""
    return machine() == "x86_64"


def has_dsp() -> bool:
    """Whether the kernel offers a compute DSP (Linux, Android); other systems are taken at their library's word."""
    return sys.platform == "win32" or any(Path("/dev", node).exists() for node in _DSP_NODES)


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("onnxruntime_qnn")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
