"""Where Qualcomm's QNN libraries are; nothing is loaded."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from mace_core.provider import find_library

ENVIRONMENT = ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

HTP_LIBRARY = "QnnHtp.dll" if sys.platform == "win32" else "libQnnHtp.so"


def find_htp() -> Path | None:
    """The HTP backend library of this machine's architecture, or None."""
    return find_library([HTP_LIBRARY], directories=folders())


def folders() -> list[Path]:
    """Folders looked into before the system's own, the user's choice first; they need not exist."""
    found: list[Path] = []
    if given := os.environ.get("MACE_QNN_LIB_DIR"):
        found.append(Path(given))
    if root := os.environ.get("QNN_SDK_ROOT"):
        machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        found += sorted(Path(root, "lib").glob(f"{machine}-*")) or [Path(root, "lib", f"{machine}-*")]
    package = _package_folder()
    if package is not None:
        found += [package, package / "lib"]
    return found


def searched() -> list[str]:
    """Everything that was looked at, as text for a message."""
    steps = []
    for variable in ("MACE_QNN_LIB_DIR", "QNN_SDK_ROOT"):
        value = os.environ.get(variable)
        steps.append(f"{variable}={value}" if value else f"{variable} (not set)")
    package = _package_folder()
    steps.append(f"the onnxruntime-qnn package ({package or 'not installed'})")
    steps.append("the system's library folders")
    return steps


def is_emulation() -> bool:
    """Whether a QNN library on this machine could only emulate the DSP."""
    return platform.machine().lower() in ("x86_64", "amd64")


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("onnxruntime_qnn")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
