"""Temperatures, clock rates, cooling and batteries of this machine, as its kernel shows them.

Read from the files of Linux' thermal, cpufreq and power_supply classes below a root that may be given
(``MACE_SYSFS_ROOT``), for boards that show them elsewhere and for tests; where the machine's own root has no thermal
zones, through psutil, which also knows hwmon.  What is absent is told, never guessed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mace_core.host.rapl import EnergyCounter, energy_counters

ROOT_VARIABLE = "MACE_SYSFS_ROOT"

_SYSTEM_ROOT = Path("/sys")
_COLDEST, _HOTTEST = -60.0, 250.0
"""Degrees Celsius: a sensor that shows anything else is broken (many show 0 K or the largest number of their register
while they sleep)."""


@dataclass(frozen=True, slots=True)
class Temperature:
    """One sensor: its name ("x86_pkg_temp", "cpu-thermal"), where it is read, and degrees Celsius."""

    name: str
    place: str
    celsius: float


@dataclass(frozen=True, slots=True)
class Cooling:
    """One cooling device, such as a fan or the kernel's own throttling: how far it is on, of how far it can be."""

    name: str
    state: int
    most: int


@dataclass(frozen=True, slots=True)
class Supply:
    """One battery or mains adapter.

    Attributes:
        name: of the kernel.
        kind: "Battery", "Mains", "USB", …
        status: "Charging", "Discharging", …, or "".
        percent: what is left of a battery; None: not told.
        watts: what flows in or out of it; None: not told.
    """

    name: str
    kind: str
    status: str = ""
    percent: float | None = None
    watts: float | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """What the sensors show at one moment.

    Attributes:
        temperatures, cooling, supplies: one for each that there is.
        clocks_mhz: processor number -> its clock rate now.
        counters: energy used so far, by domain.
        absent: a sentence for each kind of sensor that this machine does not show.
    """

    temperatures: tuple[Temperature, ...] = ()
    cooling: tuple[Cooling, ...] = ()
    clocks_mhz: dict[int, float] = field(default_factory=dict)
    supplies: tuple[Supply, ...] = ()
    counters: tuple[EnergyCounter, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def hottest(self) -> Temperature | None:
        """The sensor that shows the highest temperature; None where there is none."""
        return max(self.temperatures, key=lambda each: each.celsius, default=None)


def sysfs_root(given: Path | None = None) -> Path:
    """The root given, else that of ``MACE_SYSFS_ROOT``, else ``/sys``."""
    return given or Path(os.environ.get(ROOT_VARIABLE) or _SYSTEM_ROOT)


def read_sensors(root: Path | None = None) -> Readings:
    """Read all sensors.  One that cannot be read at this moment is left out.

    Args:
        root: as in `sysfs_root`.
    """
    root = sysfs_root(root)
    temperatures = _zones(root / "class/thermal")
    clocks = _clocks(root / "devices/system/cpu")
    if root == _SYSTEM_ROOT:
        temperatures = temperatures or _temperatures_of_psutil()
    cooling = _cooling(root / "class/thermal")
    supplies = read_supplies(root)
    counters = energy_counters(root)
    absent = []
    for found, what, where in (
        (temperatures, "temperatures", "class/thermal/thermal_zone*"),
        (cooling, "cooling devices", "class/thermal/cooling_device*"),
        (clocks, "clock rates", "devices/system/cpu/cpu*/cpufreq"),
        (supplies, "batteries", "class/power_supply"),
        (counters, "energy counters", "class/powercap"),
    ):
        if not found:
            absent.append(f"no {what}: {root / where} shows none that this user may read")
    return Readings(temperatures, cooling, clocks, supplies, counters, tuple(absent))


def _zones(folder: Path) -> tuple[Temperature, ...]:
    found = []
    for zone in _numbered(folder, "thermal_zone"):
        value = number_in(zone / "temp")
        if value is not None and _COLDEST <= value / 1000 <= _HOTTEST:
            found.append(Temperature(text_in(zone / "type") or zone.name, zone.name, value / 1000))
    return tuple(found)


def _cooling(folder: Path) -> tuple[Cooling, ...]:
    found = []
    for device in _numbered(folder, "cooling_device"):
        state, most = number_in(device / "cur_state"), number_in(device / "max_state")
        if state is not None and most is not None:
            found.append(Cooling(text_in(device / "type") or device.name, state, most))
    return tuple(found)


def _clocks(folder: Path) -> dict[int, float]:
    found = {}
    for processor in _numbered(folder, "cpu"):
        kilohertz = number_in(processor / "cpufreq/scaling_cur_freq")
        if kilohertz is not None and kilohertz > 0:
            found[int(processor.name[3:])] = kilohertz / 1000
    return found


def read_supplies(root: Path | None = None) -> tuple[Supply, ...]:
    """Batteries and mains adapters; ``root``: as in `sysfs_root`."""
    found = []
    for place in _entries(sysfs_root(root) / "class/power_supply"):
        kind = text_in(place / "type")
        if not kind:
            continue
        percent, power = number_in(place / "capacity"), number_in(place / "power_now")
        current, voltage = number_in(place / "current_now"), number_in(place / "voltage_now")
        watts = None
        if power is not None:
            watts = abs(power) / 1e6
        elif current is not None and voltage is not None:  # microamperes, some with a sign, and microvolts
            watts = abs(current) * voltage / 1e12
        status = text_in(place / "status")
        found.append(Supply(place.name, kind, status, None if percent is None else float(percent), watts))
    return tuple(found)


def _temperatures_of_psutil() -> tuple[Temperature, ...]:
    import psutil

    ask = getattr(psutil, "sensors_temperatures", None)  # there on Linux and FreeBSD alone
    found = {} if ask is None else ask()
    return tuple(
        Temperature(each.label or chip, chip, float(each.current))
        for chip, sensors in found.items()
        for each in sensors
        if each.current is not None and _COLDEST <= each.current <= _HOTTEST
    )


def _numbered(folder: Path, prefix: str) -> list[Path]:
    """Entries ``prefix`` and a number, in the order of the numbers."""
    named = [(place.name.removeprefix(prefix), place) for place in _entries(folder) if place.name.startswith(prefix)]
    return [place for number, place in sorted((int(n), place) for n, place in named if n.isascii() and n.isdigit())]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def text_in(path: Path) -> str:
    """The first line of a file; "" where it cannot be read: sensors vanish, and sleeping ones refuse."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return lines[0].strip() if lines else ""


def number_in(path: Path) -> int | None:
    """The whole number that a file holds; None where it holds none or cannot be read."""
    try:
        return int(text_in(path))
    except ValueError:
        return None
