"""Energy counters of the machine, where it has any that may be read: RAPL, and a battery that is being emptied."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

SYSFS_VARIABLE = "MACE_SYSFS_ROOT"
"""Names the folder that stands for /sys; for tests, and for containers that mount it elsewhere."""


class Reading(NamedTuple):
    """Joules of each counter since some point, by its name; a counter that starts anew after ``wraps`` joules."""

    when: float
    joules: dict[str, float]
    wraps: dict[str, float]


class PackageMeter:
    """The processors' own count of energy (RAPL; Linux shows it as ``powercap``)."""

    source = "RAPL"

    def __init__(self, sysfs: Path | None = None) -> None:
        folder = (sysfs or sysfs_root()) / "class" / "powercap"
        self._domains = sorted(folder.glob("intel-rapl:[0-9]*")) if folder.is_dir() else []
        # a domain within another one ("intel-rapl:0:1") is counted there
        self._domains = [domain for domain in self._domains if domain.name.count(":") == 1]

    def read(self) -> Reading | None:
        """What the counters say; None where there is none, or none that this user may read."""
        joules, wraps = {}, {}
        for domain in self._domains:
            try:
                joules[domain.name] = _number(domain / "energy_uj") / 1e6
                wraps[domain.name] = _number(domain / "max_energy_range_uj") / 1e6
            except (OSError, ValueError):
                continue
        return Reading(time.perf_counter(), joules, wraps) if joules else None

    def watts(self, before: Reading, after: Reading) -> float | None:
        """The mean power between two readings; None where they do not tell."""
        seconds = after.when - before.when
        shared = before.joules.keys() & after.joules.keys()
        if seconds <= 0 or not shared:
            return None
        total = 0.0
        for name in shared:
            spent = after.joules[name] - before.joules[name]
            total += spent + after.wraps[name] if spent < 0 else spent
        return total / seconds or None


def battery_watts(sysfs: Path | None = None) -> float | None:
    """The power that the batteries give now, of the whole machine; None where none is being emptied or says."""
    folder = (sysfs or sysfs_root()) / "class" / "power_supply"
    total = 0.0
    for supply in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if (supply / "status").read_text().strip() != "Discharging":
                continue
            if (supply / "power_now").exists():
                total += _number(supply / "power_now") / 1e6
            else:
                total += _number(supply / "current_now") * _number(supply / "voltage_now") / 1e12
        except (OSError, ValueError):
            continue
    return total or None


def sysfs_root() -> Path:
    """Where the kernel shows its devices."""
    return Path(os.environ.get(SYSFS_VARIABLE) or "/sys")


def _number(path: Path) -> float:
    return abs(float(path.read_text()))
