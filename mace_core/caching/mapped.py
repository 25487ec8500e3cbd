"""Large cache entries, used where they lie: mapped files, checked when opened, the least recently used dropped.

As `CheckedCache`, with three differences.  An entry's payload begins on a page of its own and is handed out as a view
of the mapped file, so that weights prepared for a device cost neither a copy nor memory of their own: processes that
run the same model share them.  Its checksums are CRC-32, which takes a third of the time of SHA-256; they are there to
find damage, not forgery (`cache` describes what keeps forgery out).  And all entries together stay below a limit.
"""

from __future__ import annotations

import logging
import mmap as mmap_module
import os
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mace_core.caching.cache import TEMPORARY_PREFIX, CheckedCache
from mace_core.errors import UsageError
from mace_core.host.mapping import map_file
from mace_core.host.private_files import make_private_folder

_LOG = logging.getLogger("mace.cache")

_MAGIC = b"MACEMAP1"
# CRC-32 of all that follows but the payload, of the payload; lengths of version, key and payload
_HEAD = struct.Struct("<8sIIIIQ")
_CHECKED_FROM = len(_MAGIC) + 4
_PAGE_BYTES = 4096
_MOST_TEXT_BYTES = 1 << 20
"""Of version and key together."""

DEFAULT_LIMIT_BYTES = 2 * 1024**3
LIMIT_VARIABLE = "MACE_CACHE_LIMIT"
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}

_SPARE_SHARE = 2
"""An entry is stored only where so many times its size are free: a cache must not fill somebody's disk."""

_ABANDONED_SECONDS = 3600.0
"""A file that has not been finished for so long never will be."""


def cache_limit() -> int:
    """The most bytes that large entries may take: ``MACE_CACHE_LIMIT`` (bytes, or as "500M", "2G"), else 2 GiB.

    Raises:
        UsageError: if the variable says nothing of the kind.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip().lower()
    if not text:
        return DEFAULT_LIMIT_BYTES
    number = text.removesuffix("b").removesuffix("i").rstrip("kmgt")
    unit = text.removesuffix("b").removesuffix("i")[len(number) :]
    try:
        limit = int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise UsageError(
            f"{LIMIT_VARIABLE} is '{os.environ[LIMIT_VARIABLE]}', which is not a size; write bytes, '500M' or '2G'"
        )
    return limit


class MappedCache(CheckedCache):
    """Large byte strings by key.  Safe for concurrent threads and processes.

    Args:
        kind, version, directory: as for `CheckedCache`.
        limit_bytes: what all entries of this kind may take; None: `cache_limit()`.
    """

    _head_bytes = _HEAD.size

    def __init__(
        self, kind: str, version: str, directory: Path | None = None, *, limit_bytes: int | None = None
    ) -> None:
        super().__init__(kind, version, directory)
        self._limit = cache_limit() if limit_bytes is None else limit_bytes
        self._most_bytes = self._limit + _PAGE_BYTES + _MOST_TEXT_BYTES

    def view(self, key: str, *, mmap: bool = True) -> memoryview | None:
        """The payload stored for ``key``, read-only and 64-byte aligned, or None: not there, or not fit to use (then it
        is removed).

        Args:
            key: as given to `put_parts`.
            mmap: map the file; False reads it into memory.  A mapped file that somebody truncates while it is in use
                kills the process; replacing or removing it, as this cache does, is harmless.
        """
        path = self._path(key)
        blob = self._blob(path, _map if mmap else _aligned_copy)
        if blob is None:
            return None
        payload, fault = self._examine(blob, key.encode())
        if payload is None:
            self._drop(path, fault)
            return None
        try:
            os.utime(path)  # the time of last use: what was not used for longest is dropped first
        except OSError as error:
            _LOG.debug("The time of use of cache entry %s cannot be noted (%s).", path, error)
        return payload

    def put_parts(self, key: str, parts: Sequence[bytes | memoryview]) -> bool:
        """Store the parts, concatenated, under ``key``; then drop what is over the limit.

        Returns:
            Whether they were stored: not where they alone are over the limit, or would take much of what is left of
            the disk, or where the folder cannot be written to.  That only makes later starts slower.
        """
        views = [memoryview(part).cast("B") for part in parts]
        size, checksum = 0, 0
        for view in views:
            size += view.nbytes
            checksum = zlib.crc32(view, checksum)
        encoded = key.encode()
        if not self._has_room(size):
            return False
        head = _HEAD.pack(_MAGIC, 0, checksum, len(self._version), len(encoded), size) + self._version + encoded
        head += bytes(-len(head) % _PAGE_BYTES)
        own = zlib.crc32(memoryview(head)[_CHECKED_FROM:])
        head = b"".join((_MAGIC, struct.pack("<I", own), head[_CHECKED_FROM:]))
        path = self._path(key)
        stored = self._write(path, (head, *views))
        if stored:
            self._evict(kept=path)
        return stored

    def get(self, key: str) -> bytes | None:
        payload = self.view(key)
        return None if payload is None else bytes(payload)

    def put(self, key: str, payload: bytes) -> None:
        self.put_parts(key, (payload,))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _has_room(self, size: int) -> bool:
        if size > self._limit:
            _LOG.info(
                "%d bytes of %s are not cached: the limit is %d (%s)", size, self.kind, self._limit, LIMIT_VARIABLE
            )
            return False
        import shutil  # only where something is stored

        if not self._is_usable():
            return False
        try:
            make_private_folder(self.directory)
            free = shutil.disk_usage(self.directory).free
        except OSError:
            return True  # writing says what is wrong
        if free < _SPARE_SHARE * size:
            _LOG.info("%d bytes of %s are not cached: %d are free in %s", size, self.kind, free, self.directory)
            return False
        return True

    def _evict(self, kept: Path) -> None:
        """Drop entries, the least recently used first, until the rest is below the limit, and what interrupted writers
        left; another process may be doing the same."""
        found: list[tuple[float, int, Path]] = []
        now = time.time()
        try:
            with os.scandir(self.directory) as files:
                for file in files:
                    status = file.stat(follow_symlinks=False)
                    if file.name.startswith(TEMPORARY_PREFIX):
                        if now - status.st_mtime > _ABANDONED_SECONDS:
                            self._unlink(Path(file.path))
                    else:
                        found.append((status.st_mtime, status.st_size, Path(file.path)))
        except OSError as error:
            _LOG.debug("The cache folder %s cannot be listed now (%s).", self.directory, error)
            return
        excess = sum(size for _, size, _ in found) - self._limit
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            if path != kept:
                _LOG.info("Cache entry %s is dropped: the limit is %d bytes (%s).", path, self._limit, LIMIT_VARIABLE)
                self._unlink(path)
                excess -= size

    def _check(self, blob: bytes, key: bytes) -> tuple[bytes | None, str]:
        payload, fault = self._examine(memoryview(blob), key)
        return (None if payload is None else bytes(payload)), fault

    def _examine(self, blob: memoryview, key: bytes) -> tuple[memoryview | None, str]:
        """(payload, "") or (None, what is wrong with it)."""
        if fault := self._misfit(bytes(blob[: _HEAD.size]), blob.nbytes):  # not the bytes that were looked at
            return None, fault
        _, own, checksum, version_bytes, key_bytes, _ = _HEAD.unpack_from(blob)
        texts_end = _HEAD.size + version_bytes + key_bytes
        start = texts_end + -texts_end % _PAGE_BYTES
        if zlib.crc32(blob[_CHECKED_FROM:start]) != own or zlib.crc32(blob[start:]) != checksum:
            return None, "its checksum is wrong"
        version = bytes(blob[_HEAD.size : _HEAD.size + version_bytes])
        if version != self._version:
            return None, f"it was written by version {version.decode(errors='replace')}, this is {self.version}"
        if blob[_HEAD.size + version_bytes : texts_end] != key:
            return None, "it holds another key"
        return blob[start:], ""

    def _stated_bytes(self, head: bytes) -> int | None:
        magic, _, _, version_bytes, key_bytes, size = _HEAD.unpack_from(head)
        if magic != _MAGIC or version_bytes + key_bytes > _MOST_TEXT_BYTES:
            return None
        texts_end = _HEAD.size + version_bytes + key_bytes
        return int(texts_end + -texts_end % _PAGE_BYTES + size)

    @staticmethod
    def _key_of(blob: bytes) -> bytes | None:
        if len(blob) < _HEAD.size:
            return None
        _, _, _, version_bytes, key_bytes, _ = _HEAD.unpack_from(blob)
        return blob[_HEAD.size + version_bytes : _HEAD.size + version_bytes + key_bytes]


def _map(descriptor: int, size: int) -> memoryview:
    """A file as memory; the mapping lives as long as something refers to it.

    Raises:
        OSError, ValueError: if it cannot be mapped.
    """
    return memoryview(map_file(descriptor, size, populate=True))


def _aligned_copy(descriptor: int, size: int) -> memoryview:
    """The content of a file at the beginning of a page.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    memory: Any = mmap_module.mmap(-1, size)
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        filled = 0
        while filled < size and (count := file.readinto(memoryview(memory)[filled:])):
            filled += count
    return memoryview(memory)[:filled].toreadonly()
