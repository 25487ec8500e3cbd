"""The drivers that are installed, and what is wrong with those that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

from mace_core.discovery.entry_points import PluginEntry, describe, discover, load
from mace_core.provider import Missing
from mace_npu.driver import NpuDriver

GROUP = "mace.npu_drivers"


@dataclass(frozen=True)
class Drivers:
    """Drivers by name, and a reason for each one that cannot be used."""

    usable: dict[str, NpuDriver]
    faults: tuple[Missing, ...]


def installed_drivers() -> Drivers:
    """Load the drivers of all distributions; what one of them does wrong does not affect the others."""
    usable: dict[str, NpuDriver] = {}
    faults: list[Missing] = []
    for entry in discover(GROUP):
        try:
            driver = _made(entry)
        except Exception as error:
            hint = f"upgrade or uninstall {entry.distribution}"
            faults.append(Missing(f"NPU driver '{entry.name}' of {entry.provenance}", describe(error), hint))
            continue
        if entry.name in usable:
            reason = "another distribution has a driver of this name, which is used"
            hint = f"uninstall one of the two, for example {entry.distribution}"
            faults.append(Missing(f"NPU driver '{entry.name}' of {entry.provenance}", reason, hint))
            continue
        usable[entry.name] = driver
    return Drivers(usable, tuple(faults))


def _made(entry: PluginEntry) -> NpuDriver:
    if entry.fault:
        raise ImportError(entry.fault)
    found = load(entry)
    if not isinstance(found, type) or not issubclass(found, NpuDriver):
        raise TypeError(f"{entry.value} is not a subclass of mace_npu.driver.NpuDriver")
    driver = found()
    if driver.name != entry.name:
        raise ValueError(f"{entry.value} calls itself '{driver.name}'")
    return driver
