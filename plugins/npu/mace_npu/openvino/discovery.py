"""Where OpenVINO and the units it could use are; nothing is loaded or imported."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple

ENVIRONMENT = ("PYTHONPATH",)
"""Environment variables the answer depends on."""

ACCELERATORS = Path("/sys/class/accel")
"""Where Linux lists compute accelerators."""

GPUS = Path("/sys/class/drm")
"""Where Linux lists GPUs."""

INTEL = "0x8086"
"""The PCI vendor of Intel's devices."""


OLDEST = (2024, 4)
"""The first version of OpenVINO that this driver is written for."""


class Unit(NamedTuple):
    """A kind of unit that OpenVINO has a plugin for.

    Attributes:
        id: of the device that stands for it.
        openvino: OpenVINO's name.
        plugin: the beginning of the name of the plugin's library, after ``openvino_``.
    """

    id: str
    openvino: str
    plugin: tuple[str, ...]


NPU = Unit("openvino-npu", "NPU", ("intel_npu_plugin",))
CPU = Unit("openvino-cpu", "CPU", ("intel_cpu_plugin", "arm_cpu_plugin"))
GPU = Unit("openvino-gpu", "GPU", ("intel_gpu_plugin",))
UNITS = {unit.id: unit for unit in (NPU, CPU, GPU)}


def package_folder() -> Path | None:
    """The folder of the ``openvino`` package; None where it is not installed."""
    try:
        spec = importlib.util.find_spec("openvino")
    except (ImportError, ValueError):  # a module of that name that is half gone
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def why_too_old(package: Path) -> str | None:
    """What to say of an OpenVINO that is older than this driver needs; None if it is not, or tells no version.

    ``package`` is the folder of the ``openvino`` package.
    """
    for information in package.parent.glob("openvino-*.dist-info"):
        found = re.match(r"openvino-(\d+)\.(\d+)", information.name)
        if found is not None and (int(found[1]), int(found[2])) < OLDEST:
            return f"OpenVINO {found[1]}.{found[2]} in {package} is older than {OLDEST[0]}.{OLDEST[1]}"
    return None


def has_plugin(package: Path, unit: Unit) -> bool:
    """Whether this OpenVINO has the plugin for a unit.  Toolkits keep them outside of the package: then all count."""
    libraries = package / "libs"
    if not libraries.is_dir():
        return True
    return any(next(libraries.glob(f"*openvino_{name}*"), None) is not None for name in unit.plugin)


def npus() -> list[str]:
    """Names of Intel's accelerators that a driver has registered."""
    return _intel(sorted(ACCELERATORS.glob("accel*")))


def gpus() -> list[str]:
    """Names of Intel's GPUs that can compute."""
    return _intel(sorted(GPUS.glob("renderD*")))


def _intel(entries: list[Path]) -> list[str]:
    found = []
    for entry in entries:
        try:
            vendor = (entry / "device" / "vendor").read_text().strip()
        except OSError:
            continue
        if vendor == INTEL:
            found.append(entry.name)
    return found
