"""Where OpenCL's loader, its drivers and the Python binding are; nothing is loaded or imported."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mace_core.provider import find_library

ENVIRONMENT = ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

_DEFAULT_VENDORS = Path("/etc/OpenCL/vendors")

LOADER_NAMES = {
    "win32": ("OpenCL.dll",),
    "darwin": ("/System/Library/Frameworks/OpenCL.framework/OpenCL",),
}.get(sys.platform, ("libOpenCL.so.1", "libOpenCL.so"))


@dataclass(frozen=True, slots=True)
class Driver:
    """A vendor's implementation.

    Attributes:
        named: the library as the registration names it.
        registered_in: the .icd file or environment variable.
        library: the file, or None where there is none.
    """

    named: str
    registered_in: str
    library: Path | None


def find_loader() -> Path | None:
    """The loader library: the one inside the pyopencl wheel, which that is linked to, or the system's."""
    for folder in bundled_folders():
        bundled = next(iter(sorted(folder.glob("libOpenCL*.so*"))), None)
        if bundled is not None:
            return bundled
    return find_library(LOADER_NAMES)


def bundled_folders() -> list[Path]:
    """Where a pyopencl wheel keeps its loader, and a CPU runtime from PyPI its registration."""
    package = binding_folder()
    if package is None:
        return []
    return [folder for folder in (package / ".libs", package.parent / "pyopencl.libs") if folder.is_dir()]


def binding_folder() -> Path | None:
    """The folder of the pyopencl package, or None where it is not installed."""
    spec = importlib.util.find_spec("pyopencl")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def vendor_places() -> list[Path]:
    """Folders (or single .icd files) in which drivers register."""
    given = os.environ.get("OCL_ICD_VENDORS")
    return [Path(given)] if given else [_DEFAULT_VENDORS, *bundled_folders()]


def vendor_files() -> list[Path]:
    """The .icd files in force."""
    files: list[Path] = []
    for place in vendor_places():
        files += [place] if place.is_file() else sorted(place.glob("*.icd"))
    return files


def find_drivers() -> list[Driver]:
    """Every registered driver, those whose library is not there included."""
    drivers = []
    for path in vendor_files():
        try:
            named = path.read_text(errors="replace").strip().splitlines()
        except OSError:
            named = []
        name = named[0].strip() if named else ""
        beside = path.parent / name
        library = beside if name and beside.is_file() else find_library([name]) if name else None
        drivers.append(Driver(name or f"library of {path.name}", str(path), library))
    for name in os.environ.get("OCL_ICD_FILENAMES", "").split(os.pathsep):
        if name:
            drivers.append(Driver(name, "OCL_ICD_FILENAMES", find_library([name])))
    return drivers
