"""Static libraries: object files in an ``ar`` archive, with the index that linkers want.

Source: the archive format of System V and GNU (``ar(5)``); the index is the member ``/``, long names are in ``//``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

_MAGIC = b"!<arch>\n"
_LONGEST_NAME = 15


class Member(NamedTuple):
    """A file of an archive, and the symbols that it defines for others."""

    path: Path
    symbols: Sequence[str]


def write_archive(file: IO[bytes], members: Sequence[Member]) -> int:
    """Write an archive; answers its size in bytes.  The same members always give the same bytes.

    Raises:
        ValueError: it would be too large for the format's index (4 GiB).
    """
    long_names = b"".join(m.path.name.encode() + b"/\n" for m in members if len(m.path.name) > _LONGEST_NAME)
    long_names += b"\n" * (len(long_names) % 2)
    texts = b"".join(symbol.encode() + b"\0" for member in members for symbol in member.symbols)
    count = sum(len(member.symbols) for member in members)
    index_bytes = 4 + 4 * count + len(texts)
    at = len(_MAGIC) + 60 + index_bytes + index_bytes % 2 + (60 + len(long_names) if long_names else 0)
    places: list[int] = []
    names: list[str] = []
    long_at = 0
    for member in members:
        places += [at] * len(member.symbols)
        size = member.path.stat().st_size
        at += 60 + size + size % 2
        if len(member.path.name) > _LONGEST_NAME:
            names.append(f"/{long_at}")
            long_at += len(member.path.name.encode()) + 2
        else:
            names.append(f"{member.path.name}/")
    if at >= 1 << 32:
        raise ValueError("a static library holds less than 4 GiB")
    index = struct.pack(">I", count) + b"".join(struct.pack(">I", place) for place in places) + texts
    file.write(_MAGIC + _header("/", index_bytes) + index + b"\0" * (index_bytes % 2))
    if long_names:
        file.write(_header("//", len(long_names)) + long_names)
    for name, member in zip(names, members, strict=True):
        size = member.path.stat().st_size
        file.write(_header(name, size))
        with member.path.open("rb") as source:
            while block := source.read(1 << 20):
                file.write(block)
        file.write(b"\n" * (size % 2))
    return at


def _header(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'644':<8}{size:<10}`\n".encode()
