"""Where OpenVINO and the NPU's driver are; nothing is loaded or imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from mace_core.provider import find_library

ENVIRONMENT = ("INTEL_OPENVINO_DIR", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

ACCELERATOR_FOLDER = Path("/dev/accel")
"""Where Linux lists compute accelerators."""

LIBRARY_NAMES = {"win32": ("openvino_c.dll",), "darwin": ("libopenvino_c.dylib",)}.get(
    sys.platform, ("libopenvino_c.so",)
)


def find_openvino() -> Path | None:
    """OpenVINO's C library, or None.  The wheel's file carries a version suffix."""
    for folder in folders():
        for name in LIBRARY_NAMES:
            versioned = sorted(folder.glob(f"{name}*"))
            if versioned:
                return versioned[0]
    return find_library(LIBRARY_NAMES)


def folders() -> list[Path]:
    """Folders looked into before the system's own."""
    found: list[Path] = []
    package = _package_folder()
    if package is not None:
        found.append(package / "libs")
    if root := os.environ.get("INTEL_OPENVINO_DIR"):
        found += [Path(root, "runtime", "lib", "intel64"), Path(root, "runtime", "lib", "aarch64")]
    return found


def searched() -> list[str]:
    """Everything that was looked at, as text for a message."""
    root = os.environ.get("INTEL_OPENVINO_DIR")
    return [
        f"the openvino package ({_package_folder() or 'not installed'})",
        f"INTEL_OPENVINO_DIR={root}" if root else "INTEL_OPENVINO_DIR (not set)",
        "the system's library folders",
    ]


def accelerators() -> list[Path]:
    """Device files of compute accelerators (Linux); whose they are only the driver tells."""
    return sorted(ACCELERATOR_FOLDER.glob("accel*"))


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("openvino")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
