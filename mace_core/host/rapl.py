"""Energy counters of the processor (RAPL), and the power that follows from two readings of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EnergyCounter:
    """One domain of the powercap class.

    Attributes:
        name: of the domain: "package-0", "core", "dram", …
        place: its folder, "intel-rapl:0:1": a name may be there twice.
        joules: what it counted so far.
        wraps_at: where the counter begins again from 0, in joules; 0: not told.
    """

    name: str
    place: str
    joules: float
    wraps_at: float = 0.0


def energy_counters(root: Path) -> tuple[EnergyCounter, ...]:
    """The counters below the root of a sysfs that this user may read (since 2020 most kernels keep them to root)."""
    found = []
    try:
        places = sorted((root / "class/powercap").iterdir())
    except OSError:
        return ()
    for place in places:
        used, top = _microjoules(place / "energy_uj"), _microjoules(place / "max_energy_range_uj")
        if used is not None:
            name = _text(place / "name") or place.name
            found.append(EnergyCounter(name, place.name, used / 1e6, (top or 0) / 1e6))
    return tuple(found)


def watts(before: Sequence[EnergyCounter], after: Sequence[EnergyCounter], seconds: float) -> dict[str, float]:
    """Mean power by domain between two readings.

    A counter that stands lower than before has begun again once; where it does not tell its range, or the range is
    smaller than what it showed, nothing is known of it.

    Args:
        seconds: between the two readings; more than 0.
    """
    earlier = {each.place: each for each in before}
    found: dict[str, float] = {}
    for each in after:
        if each.place not in earlier or seconds <= 0:
            continue
        used = each.joules - earlier[each.place].joules
        if used < 0:
            used += each.wraps_at
        if used >= 0:
            name = f"{each.name} ({each.place})" if each.name in found else each.name
            found[name] = used / seconds
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _microjoules(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isascii() and text.isdigit() else None
