"""The power that work takes: of the processors by their own counters, of the whole machine by its battery."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from mace_core.host.rapl import EnergyCounter, energy_counters, watts
from mace_core.host.sensors import read_supplies, sysfs_root


class Reading(NamedTuple):
    """What the counters showed at a moment (`time.perf_counter`)."""

    when: float
    counters: tuple[EnergyCounter, ...]


class PackageMeter:
    """The processors' own count of energy (RAPL; Linux shows it as ``powercap``)."""

    source = "RAPL"

    def __init__(self, sysfs: Path | None = None) -> None:
        """``sysfs``: as in `mace_core.host.sensors.sysfs_root`."""
        self._root = sysfs_root(sysfs)

    def read(self) -> Reading | None:
        """What the counters say; None where there is none, or none that this user may read."""
        # a domain within another one ("intel-rapl:0:1") is counted there
        counters = tuple(
            counter
            for counter in energy_counters(self._root)
            if counter.place.startswith("intel-rapl:") and counter.place.count(":") == 1
        )
        return Reading(time.perf_counter(), counters) if counters else None

    def watts(self, before: Reading, after: Reading) -> float | None:
        """The mean power between two readings; None where they do not tell."""
        found = watts(before.counters, after.counters, after.when - before.when)
        return sum(found.values()) or None


def battery_watts(sysfs: Path | None = None) -> float | None:
    """The power that the batteries give now, of the whole machine; None where none is being emptied or says."""
    given = [supply.watts or 0.0 for supply in read_supplies(sysfs) if supply.status == "Discharging"]
    return sum(given) or None
