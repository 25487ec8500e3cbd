"""What the mappings of this process hold in memory, as Linux tells it (proc(5), ``/proc/pid/smaps``).

Nothing but the standard library's small modules is imported: looking should not change much of what is seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEAD = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)")


class MappedRange(NamedTuple):
    """One mapping.

    Attributes:
        start, end: addresses.
        permissions: ``r-xp``: readable, writable, executable, private or shared.
        path: the file, ``[heap]``, ``[stack]``, … ; "" for anonymous memory.
        inode: of the file; 0 where there is none.
        rss: bytes of it that are in memory.
        pss: the same, each page divided by the number of processes that use it.
        private: bytes in memory that no other process uses: what ending this one gives back.
        shared: bytes in memory that others use too.
        swap: bytes that were swapped out.
    """

    start: int
    end: int
    permissions: str
    path: str
    inode: int
    rss: int
    pss: int
    private: int
    shared: int
    swap: int

    @property
    def is_executable(self) -> bool:
        return "x" in self.permissions


def mapped_ranges(path: Path = Path("/proc/self/smaps")) -> list[MappedRange]:
    """All mappings of the process, in the order of their addresses; empty where the system does not tell."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    return list(_parsed(text))


def _parsed(text: str) -> Iterator[MappedRange]:
    head: re.Match[str] | None = None
    found: dict[str, int] = {}
    for line in text.splitlines():
        started = _HEAD.match(line)
        if started is None:
            name, _, value = line.partition(":")
            number = value.strip().removesuffix(" kB")
            if number.isdigit():
                found[name] = int(number) << 10
            continue
        if head is not None:
            yield _range(head, found)
        head, found = started, {}
    if head is not None:
        yield _range(head, found)


def _range(head: re.Match[str], found: dict[str, int]) -> MappedRange:
    start, end, permissions, inode, path = head.groups()
    private = found.get("Private_Clean", 0) + found.get("Private_Dirty", 0) + found.get("Private_Hugetlb", 0)
    shared = found.get("Shared_Clean", 0) + found.get("Shared_Dirty", 0) + found.get("Shared_Hugetlb", 0)
    rss, pss, swap = (found.get(name, 0) for name in ("Rss", "Pss", "Swap"))
    return MappedRange(
        int(start, 16), int(end, 16), permissions, path.removesuffix(" (deleted)"), int(inode), rss, pss, private,
        shared, swap,
    )  # fmt: skip


def resident_bytes(path: Path = Path("/proc/self/statm")) -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    import os

    try:
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def most_resident_bytes(path: Path = Path("/proc/self/status")) -> int:
    """The most bytes that this process ever had in memory; 0 where the system does not tell."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        return 0
    return 0
