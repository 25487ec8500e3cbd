"""Which processors of this machine are fast and which are efficient, and keeping threads on some of them."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("mace.processors")

AFFINITIES = ("none", "big", "little")

ALIKE = 1.2
"""Processors whose speeds differ by less than this factor are of one kind (favored cores of one design differ by a
few per cent)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The processors that threads shall keep to.

    Attributes:
        processors: their numbers; None: any that the process may use.
        note: a sentence for the user where a wish could not be kept; else "".
    """

    processors: frozenset[int] | None = None
    note: str = ""


def choose_processors(affinity: str, root: Path = Path("/"), allowed: Collection[int] | None = None) -> Choice:
    """The processors that an affinity ("none", "big" or "little") stands for here.

    A wish that cannot be kept is not: then the threads go where the system puts them, and the note says why.  So a
    program that prefers efficient cores also runs where there is only one kind.

    Args:
        affinity: one of `AFFINITIES`.
        root: where ``sys`` is looked for.
        allowed: processors that this process may use; None: ask the system.
    """
    if affinity == "none":
        return Choice()
    wish = f"affinity '{affinity}' changes nothing:"
    if not can_pin():
        return Choice(note=f"{wish} this system does not let a program choose the processors of its threads")
    usable = frozenset(usable_processors() if allowed is None else allowed)
    kinds = processor_kinds(root)
    if not kinds:
        return Choice(note=f"{wish} this system does not tell how fast its processors are")
    if len(kinds) == 1:
        return Choice(note=f"{wish} all processors of this machine are of one kind")
    little, big = kinds
    chosen = usable & (big if affinity == "big" else little)
    if not chosen:
        return Choice(
            note=f"{wish} this process may only use processors {_ranges(usable)}, none of which is {affinity}"
        )
    return Choice(chosen)


def processor_kinds(root: Path = Path("/")) -> tuple[frozenset[int], ...]:
    """(all), or (little, big), or () where the system does not tell.

    Told by the processor designs on hybrid x86 machines, else by the capacities that the Linux scheduler uses, else by
    the highest clock rates.  With more than two speeds the widest gap divides them.

    Args:
        root: where ``sys`` is looked for.
    """
    devices = root / "sys/devices"
    fast, frugal = _processor_list(devices / "cpu_core/cpus"), _processor_list(devices / "cpu_atom/cpus")
    if fast and frugal:
        return frugal, fast
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = _speeds(devices / "system/cpu", name)
        if speeds:
            return _divide(speeds)
    return ()


def describe_kinds(root: Path = Path("/")) -> str:
    """For people: "efficient 0-3, fast 4-7", "all of one kind", or that nobody knows."""
    kinds = processor_kinds(root)
    if len(kinds) == 2:
        return f"efficient {_ranges(kinds[0])}, fast {_ranges(kinds[1])}"
    return "all of one kind" if kinds else "of unknown kinds"


def _divide(speeds: dict[int, int]) -> tuple[frozenset[int], ...]:
    steps = sorted(set(speeds.values()))
    gaps = [(high / low, high) for low, high in itertools.pairwise(steps)]
    widest, limit = max(gaps, default=(1.0, 0))
    if widest < ALIKE:
        return (frozenset(speeds),)
    big = frozenset(number for number, speed in speeds.items() if speed >= limit)
    return frozenset(speeds) - big, big


def _speeds(folder: Path, name: str) -> dict[int, int]:
    """Speed by number of those processors that have one."""
    found: dict[int, int] = {}
    for path in folder.glob("cpu[0-9]*"):
        text = _read(path / name)
        if path.name[3:].isdigit() and text.isdigit() and int(text) > 0:
            found[int(path.name[3:])] = int(text)
    return found


def _processor_list(path: Path) -> frozenset[int]:
    """``0-3,8`` as numbers; empty where the file is absent or says something else."""
    found: set[int] = set()
    for part in _read(path).split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            return frozenset()
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _ranges(numbers: Collection[int]) -> str:
    """``0-3, 6``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


# --- threads ----------------------------------------------------------------------------------------------------------


def can_pin() -> bool:
    """Whether this system lets a thread choose its processors."""
    return hasattr(os, "sched_setaffinity")


def usable_processors() -> frozenset[int]:
    """Numbers of the processors that the calling thread may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def pin_this_thread(processors: Collection[int]) -> bool:
    """Keep the calling thread to these processors; False, and a warning, where the system refuses (they were switched
    off or taken away meanwhile)."""
    if not can_pin():
        return False
    try:
        os.sched_setaffinity(0, processors)
    except OSError as error:
        _log.warning("A thread cannot be kept to processors %s: %s.", _ranges(processors), error)
        return False
    return True


@contextlib.contextmanager
def pinned(processors: Collection[int]) -> Iterator[None]:
    """Keep the calling thread to these processors while the body runs."""
    before = usable_processors()
    moved = not before <= frozenset(processors) and pin_this_thread(processors)
    try:
        yield
    finally:
        if moved:
            pin_this_thread(before)
