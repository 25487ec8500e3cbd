"""Files that may be thrown away: checked cache entries under one folder.

An entry that is damaged, truncated or written by another version is never handed out: `CheckedCache.get` removes it and
answers None, and the caller builds its content again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

_LOG = logging.getLogger("mace_core.cache")

_MAGIC = b"MACE\x00\x01\r\n"
# magic, length of version, of key and of payload, SHA-256 over lengths, version, key and payload
_LENGTHS = struct.Struct("<IIQ")
_DIGEST_BYTES = 32
_HEADER_BYTES = len(_MAGIC) + _LENGTHS.size + _DIGEST_BYTES
_SUFFIX = ".entry"
TEMPORARY_PREFIX = ".new-"
"""Of files that are being written, and of what an interrupted writer left."""


def cache_dir() -> Path:
    """The folder for everything cached: ``MACE_CACHE_DIR``, else the platform's user cache folder for ``mace``."""
    chosen = os.environ.get("MACE_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mace", appauthor=False))


_REPORTED: set[Path] = set()
"""Folders that this process has said it can not write to: once is enough, whatever the kinds of entries."""


class CheckedCache:
    """Byte strings by key, on disk, each with a checksum.  Safe for concurrent threads and processes.

    Args:
        kind: names the sub-folder: "kernels", "plans", …
        version: of whatever writes the payloads.  Entries of another version are removed when met.
        directory: instead of ``cache_dir()``.
    """

    def __init__(self, kind: str, version: str, directory: Path | None = None) -> None:
        self.kind = kind
        self.version = version
        self.directory = (cache_dir() if directory is None else Path(directory)) / kind
        self._version = version.encode()

    def get(self, key: str) -> bytes | None:
        """The payload stored for ``key``, or None: not there, or not fit to use (then it is removed)."""
        path = self._path(key)
        try:
            blob = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.info("Cache entry %s cannot be read (%s); its content is built again.", path, error)
            return None
        payload, fault = self._check(blob, key.encode())
        if payload is None:
            _LOG.info("Cache entry %s is not used: %s; its content is built again.", path, fault)
            self._unlink(path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store ``payload`` under ``key``, replacing what was there in one step.

        A folder that cannot be written to is logged once and otherwise ignored: caches are optional.
        """
        encoded = key.encode()
        lengths = _LENGTHS.pack(len(self._version), len(encoded), len(payload))
        digest = _digest(lengths, self._version, encoded, payload)
        self._write(self._path(key), (_MAGIC, lengths, digest, self._version, encoded, payload))

    def remove(self, key: str) -> None:
        """Forget ``key``; nothing happens if it is not there."""
        self._unlink(self._path(key))

    def clear(self) -> None:
        """Forget every entry of this kind, whatever its version, and what interrupted writers have left."""
        for path in (*self._files(), *self.directory.glob(TEMPORARY_PREFIX + "*")):
            self._unlink(path)

    def entries(self) -> list[str]:
        """The keys of all entries that `get` would return, sorted."""
        keys = []
        for path in self._files():
            try:
                blob = path.read_bytes()
            except OSError:
                continue  # removed by another process since it was listed
            key = self._key_of(blob)
            if key is not None and self._check(blob, key)[0] is not None:
                keys.append(key.decode())
        return sorted(keys)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _write(self, path: Path, parts: Sequence[bytes | memoryview]) -> bool:
        """Make ``parts`` the content of ``path`` in one step; False, and told once, where that is not possible."""
        import tempfile  # only here: it takes as long to import as to read an entry

        temporary: str | None = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self.directory)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
            Path(temporary).replace(path)
        except BaseException as error:
            if temporary is not None:
                self._unlink(Path(temporary))
            if not isinstance(error, OSError):
                raise
            if self.directory.parent not in _REPORTED:
                _REPORTED.add(self.directory.parent)
                _LOG.warning(
                    "The cache folder %s cannot be written to (%s); going on without it, later starts will be slower. "
                    "Set MACE_CACHE_DIR to a writable folder.",
                    self.directory.parent,
                    error,
                )
            return False
        return True

    def _path(self, key: str) -> Path:
        return self.directory / (hashlib.sha256(key.encode()).hexdigest()[:40] + _SUFFIX)

    def _files(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(self.directory.glob("*" + _SUFFIX))

    def _check(self, blob: bytes, key: bytes) -> tuple[bytes | None, str]:
        """(payload, "") or (None, what is wrong with it)."""
        if len(blob) < _HEADER_BYTES:
            return None, "it is truncated"
        if not blob.startswith(_MAGIC):
            return None, "it does not begin like a cache entry"
        lengths = blob[len(_MAGIC) : len(_MAGIC) + _LENGTHS.size]
        version_bytes, key_bytes, payload_bytes = _LENGTHS.unpack(lengths)
        if len(blob) != _HEADER_BYTES + version_bytes + key_bytes + payload_bytes:
            return None, "its length is wrong"
        start = _HEADER_BYTES
        version = blob[start : start + version_bytes]
        stored_key = blob[start + version_bytes : start + version_bytes + key_bytes]
        payload = blob[start + version_bytes + key_bytes :]
        stored_digest = blob[_HEADER_BYTES - _DIGEST_BYTES : _HEADER_BYTES]
        if stored_digest != _digest(lengths, version, stored_key, payload):
            return None, "its checksum is wrong"
        if version != self._version:
            return None, f"it was written by version {version.decode(errors='replace')}, this is {self.version}"
        if stored_key != key:
            return None, "it holds another key"
        return payload, ""

    @staticmethod
    def _key_of(blob: bytes) -> bytes | None:
        if len(blob) < _HEADER_BYTES:
            return None
        version_bytes, key_bytes, _ = _LENGTHS.unpack_from(blob, len(_MAGIC))
        return blob[_HEADER_BYTES + version_bytes : _HEADER_BYTES + version_bytes + key_bytes]

    @staticmethod
    def _unlink(path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.debug("Cache entry %s cannot be removed (%s).", path, error)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
