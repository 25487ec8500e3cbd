"""Opening packages: mapped, looked through, and whole or refused."""

from __future__ import annotations

import hashlib
import json
import mmap as mmap_module
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.caching.build_id import build_id
from mace_core.caching.cache import CheckedCache
from mace_core.errors import ModelNotFoundError, PackageError, model_file_error
from mace_core.host.mapping import map_file
from mace_core.package.layout import HEAD_BYTES, Head, Section, read_head, read_table, signed_part
from mace_core.tensor.files import FileIdentity, file_identity, settled_identity

_CHUNK_BYTES = 1 << 20
"""Checked at a time, so that other threads are not kept from running."""


class Package:
    """An open package; its bytes stay as they are for as long as something refers to them.

    Attributes:
        label: how messages call it.
        path: the file; None for one that is in memory.
        identity: of the file as it was opened, where a later change of it would show.
        format: major and minor version.
        nbytes: size of the whole.
        sections: in the order in which they lie; of kinds that are not known too.
        metadata: about the whole.
        digest: stands for the whole content.
        head: what its first bytes say.
    """

    def __init__(self, content: memoryview, label: str, path: Path | None, identity: FileIdentity | None) -> None:
        """Looks at the head and the table.

        Raises:
            PackageError: if they are not those of a package that this version reads.
        """
        self._content = content
        self.head: Head = read_head(content, label)
        table = bytes(content[self.head.table_at : self.head.table_at + self.head.table_bytes])
        if hashlib.sha256(table).digest() != self.head.table_digest:
            raise PackageError(f"{label} is damaged: its table has another checksum; compile it or fetch it again")
        self.label = label
        self.path = path
        self.identity = identity
        self.format = (self.head.major, self.head.minor)
        self.nbytes = content.nbytes
        self.digest = self.head.table_digest.hex()
        self.sections, self.metadata = read_table(table, self.head.table_at, label)

    @property
    def content(self) -> memoryview:
        """All of its bytes, read-only."""
        return self._content

    @property
    def signature_block(self) -> bytes:
        """What follows the table; nothing where it is not signed."""
        return bytes(self._content[self.head.table_at + self.head.table_bytes :])

    @property
    def signed_part(self) -> bytes:
        """What signatures are under."""
        return signed_part(bytes(self._content[:HEAD_BYTES]))

    def of_kind(self, kind: str) -> Iterator[Section]:
        """The sections of one kind."""
        return (section for section in self.sections if section.kind == kind)

    def find(self, kind: str, name: str) -> Section | None:
        """A section, if there is one of this kind and name."""
        return next((section for section in self.of_kind(kind) if section.name == name), None)

    def view(self, section: Section) -> memoryview:
        """The bytes of a section, read-only, where they lie; begin at a multiple of 64 bytes."""
        return self._content[section.offset : section.offset + section.nbytes]

    def array(self, section: Section) -> npt.NDArray[np.uint8]:
        """As `view`, as a flat array."""
        return np.frombuffer(self._content, np.uint8)[section.offset : section.offset + section.nbytes]

    def check(self) -> None:
        """Compare every section with its checksum.

        Raises:
            PackageError: naming the first one that is not what it was.
        """
        end = HEAD_BYTES
        for section in self.sections:
            if not self._is_blank(end, section.offset):
                raise PackageError(f"{self.label} is damaged: something is between its sections; compile it again")
            digest = hashlib.sha256()
            view = self.view(section)
            for start in range(0, view.nbytes, _CHUNK_BYTES):
                digest.update(view[start : start + _CHUNK_BYTES])
            if digest.hexdigest() != section.digest:
                what = f"{section.kind} {section.name}".strip()
                raise PackageError(
                    f"{self.label} is damaged: its section '{what}' has another checksum; compile it or fetch it again"
                )
            end = section.offset + section.nbytes
        if not self._is_blank(end, self.head.table_at):
            raise PackageError(f"{self.label} is damaged: something is before its table; compile it again")

    def _is_blank(self, start: int, end: int) -> bool:
        """Whether bytes are zeros; looked at a few at a time, since a file may have holes of any size."""
        steps = range(start, end, _CHUNK_BYTES)
        return not any(bytes(self._content[at : min(at + _CHUNK_BYTES, end)]).strip(b"\0") for at in steps)


def open_package(source: Path | bytes, *, path: Path | None = None, mmap: bool = True, cache: bool = False) -> Package:
    """A package, looked through and compared with its checksums.

    Args:
        source: the file, or its bytes.
        path: where the bytes come from, for messages.
        mmap: use the mapped file; False reads it into memory.  A mapped file that somebody truncates while it is in
            use kills the process.
        cache: note in the cache that this very file was compared, so that the next process need not read all of it.

    Raises:
        PackageError: if it is damaged, or this version cannot read it.
        ModelError: if the file cannot be read.
    """
    if isinstance(source, bytes):
        label = "the package given as bytes" if path is None else f"'{path}'"
        package = Package(_aligned(source), label, path, None)
        package.check()
        return package
    try:
        with source.open("rb") as file:
            identity = settled_identity(source, file.fileno())
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise PackageError(f"the package '{source}' is empty: compile it or fetch it again")
            content = memoryview(map_file(file.fileno(), size)) if mmap else _aligned(file.read())
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"there is no package '{source}'", source) from error
    except OSError as error:
        raise model_file_error(f"the package '{source}' cannot be read: {error}", error, source) from error
    except ValueError as error:
        raise PackageError(f"the package '{source}' cannot be read: {error}") from error
    package = Package(content, f"'{source}'", source, identity)
    if not cache or identity is None:
        package.check()
        return package
    checked = CheckedCache("packages", build_id())
    key = json.dumps([identity, package.digest])
    if checked.get(key) is None:
        package.check()
        if file_identity(source) == identity:
            checked.put(key, b"whole")
    return package


def _aligned(content: bytes) -> memoryview:
    """The bytes at the beginning of a page."""
    if not content:
        raise PackageError("the package given as bytes is empty: compile it or fetch it again")
    memory: Any = mmap_module.mmap(-1, len(content))
    view = memoryview(memory)
    view[:] = content
    return view.toreadonly()
