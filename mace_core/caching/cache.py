"""Files that may be thrown away: checked cache entries under one folder.

An entry that is damaged, truncated or written by another version is never handed out: `CheckedCache.get` removes it and
answers None, and the caller builds its content again.  The checksums find damage, not forgery: what keeps others from
putting code there is that folder and entries are the user's own and nobody else can write to them (`private_files`).
Where that is not so the cache is not used, and that is said once.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from mace_core.errors import UsageError
from mace_core.host.private_files import (
    NotPrivateError,
    check_private_folder,
    check_private_status,
    make_private_folder,
    open_private,
)

_LOG = logging.getLogger("mace.cache")

_MAGIC = b"MACE\x00\x01\r\n"
# magic, length of version, of key and of payload, SHA-256 over lengths, version, key and payload
_LENGTHS = struct.Struct("<IIQ")
_DIGEST_BYTES = 32
_HEADER_BYTES = len(_MAGIC) + _LENGTHS.size + _DIGEST_BYTES
_SUFFIX = ".entry"
TEMPORARY_PREFIX = ".new-"
"""Of files that are being written, and of what an interrupted writer left."""


_MOST_BYTES = 2 * 1024**3
"""Of one entry that is read into memory."""

_Blob = TypeVar("_Blob", bytes, memoryview)


def cache_dir() -> Path:
    """The folder for everything cached: ``MACE_CACHE_DIR``, else the platform's user cache folder for ``mace``.

    Raises:
        UsageError: if the variable names no folder; a relative one would be another one wherever a program is started,
            and what lies in a cache is run as code.
    """
    chosen = os.environ.get("MACE_CACHE_DIR")
    if chosen:
        try:
            folder = Path(chosen).expanduser()
        except RuntimeError:
            raise UsageError(
                f"MACE_CACHE_DIR is '{chosen}', and no home folder of that user is known; write the whole path"
            ) from None
    else:
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("mace", appauthor=False))
    if not folder.is_absolute():
        named = f"MACE_CACHE_DIR is '{chosen}'" if chosen else f"the system's folder for caches is '{folder}'"
        raise UsageError(f"{named}, a relative path; write the whole path in MACE_CACHE_DIR, beginning at the root")
    return folder


_REPORTED: set[str | Path] = set()
"""What this process has said that it goes without: once is enough, whatever the kinds of entries."""

_ABOVE_IS_PRIVATE: dict[tuple[Path, int], tuple[int, int]] = {}
"""Device and inode of folders (by user) for which every folder above has been looked at: only they need be again."""


class CheckedCache:
    """Byte strings by key, on disk, each with a checksum.  Safe for concurrent threads and processes.

    Args:
        kind: names the sub-folder: "kernels", "plans", …
        version: of whatever writes the payloads.  Entries of another version are removed when met.
        directory: instead of ``cache_dir()``.
    """

    _head_bytes = _HEADER_BYTES

    def __init__(self, kind: str, version: str, directory: Path | None = None) -> None:
        self.kind = kind
        self.version = version
        self._version = version.encode()
        self._most_bytes = _MOST_BYTES
        self._misnamed = ""
        try:
            self.directory = (cache_dir() if directory is None else Path(directory).absolute()) / kind
        except UsageError as error:
            self.directory = Path(os.devnull) / kind
            self._misnamed = str(error)

    def get(self, key: str) -> bytes | None:
        """The payload stored for ``key``, or None: not there, or not fit to use (then it is removed)."""
        path = self._path(key)
        blob = self._blob(path, _read)
        if blob is None:
            return None
        payload, fault = self._check(blob, key.encode())
        if payload is None:
            self._drop(path, fault)
        return payload

    def has(self, key: str) -> bool:
        """Whether there is an entry for ``key``, good or not."""
        return self._is_usable() and self._path(key).exists()

    def fault(self) -> str:
        """Why the cache is not used, as a sentence without its end; "" where it is (or will be, once it is there)."""
        if self._misnamed:
            return self._misnamed
        try:
            self._check_folder()
        except NotPrivateError as error:
            return f"{error}, and what lies in a cache is run as code"
        except NotADirectoryError:  # nothing can be read there, and writing tells what is wrong
            return ""
        except OSError as error:
            return f"it cannot be looked at: {error}"
        return ""

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
        if self._is_usable():
            self._unlink(self._path(key))

    def clear(self) -> None:
        """Forget every entry of this kind, whatever its version, and what interrupted writers have left."""
        if self._is_usable():
            for path in (*self._files(), *self.directory.glob(TEMPORARY_PREFIX + "*")):
                self._unlink(path)

    def entries(self) -> list[str]:
        """The keys of all entries that `get` would return, sorted."""
        keys = []
        for path in self._files():
            blob = self._blob(path, _read)
            if blob is None:
                continue  # removed by another process since it was listed
            key = self._key_of(blob)
            if key is not None and self._check(blob, key)[0] is not None:
                keys.append(key.decode())
        return sorted(keys)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _is_usable(self) -> bool:
        """Whether nobody else can write to the folder; says once where it is not so."""
        fault = self.fault()
        if fault:
            self._report(
                "The cache%s is not used, so every start will be slow: %s. Set MACE_CACHE_DIR to a folder of your own.",
                "" if self._misnamed else f" in {self.directory.parent}",
                fault,
            )
        return not fault

    def _check_folder(self) -> None:
        """Raises NotPrivateError or OSError where somebody else might write to the folder."""
        user = os.geteuid() if hasattr(os, "geteuid") else 0
        try:
            status = os.stat(self.directory)  # noqa: PTH116 - a third of the time of Path.stat
        except FileNotFoundError:
            check_private_folder(self.directory)
            return
        if _ABOVE_IS_PRIVATE.get((self.directory, user)) == (status.st_dev, status.st_ino):
            check_private_status(self.directory, status)
            return
        check_private_folder(self.directory)
        _ABOVE_IS_PRIVATE[self.directory, user] = (status.st_dev, status.st_ino)

    def _report(self, message: str, *words: object) -> None:
        """Warn, once in a process for each cache folder."""
        about = self._misnamed or str(self.directory.parent)
        if about not in _REPORTED:
            _REPORTED.add(about)
            _LOG.warning(message, *words)

    def _blob(self, path: Path, read: Callable[[int, int], _Blob]) -> _Blob | None:
        """The content of an entry, in the form that ``read`` makes of a descriptor and a size; None where there is no
        such entry, and where it is not fit to be looked at.  The only way in which anything of a cache is read."""
        if not self._is_usable():
            return None
        try:
            descriptor, size = open_private(path)
        except FileNotFoundError:
            return None
        except NotPrivateError as error:
            _LOG.log(
                logging.INFO if self.directory in _REPORTED else logging.WARNING,
                "Cache entry %s is not used: %s; its content is built again.",
                path,
                error,
            )
            _REPORTED.add(self.directory)
            self._unlink(path)
            return None
        except OSError as error:
            _LOG.info("Cache entry %s cannot be read (%s); its content is built again.", path, error)
            return None
        try:
            fault = self._misfit(os.read(descriptor, self._head_bytes), size)
            if not fault:
                return read(descriptor, size)
        except (OSError, ValueError) as error:  # ValueError: it has become shorter meanwhile
            fault = f"it cannot be read ({error})"
        finally:
            os.close(descriptor)
        self._drop(path, fault)
        return None

    def _misfit(self, head: bytes, size: int) -> str:
        """What is wrong with a file of ``size`` bytes that begins with ``head``; "" where nothing is."""
        if len(head) < self._head_bytes:
            return "it is truncated"
        stated = self._stated_bytes(head)
        if stated is None:
            return "it does not begin like a cache entry"
        if stated != size:
            return "its length is wrong"
        return f"it is larger than {self._most_bytes} bytes" if size > self._most_bytes else ""

    def _stated_bytes(self, head: bytes) -> int | None:
        """The length of the entry that begins with ``head``, or None: that is not an entry."""
        if not head.startswith(_MAGIC):
            return None
        return _HEADER_BYTES + int(sum(_LENGTHS.unpack_from(head, len(_MAGIC))))

    def _drop(self, path: Path, fault: str) -> None:
        _LOG.info("Cache entry %s is not used: %s; its content is built again.", path, fault)
        self._unlink(path)

    def _write(self, path: Path, parts: Sequence[bytes | memoryview]) -> bool:
        """Make ``parts`` the content of ``path`` in one step; False, and told once, where that is not possible."""
        import tempfile  # only here: it takes as long to import as to read an entry

        if not self._is_usable():
            return False
        temporary: str | None = None
        try:
            make_private_folder(self.directory)
            if not self._is_usable():  # it is there only now
                return False
            descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self.directory)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(parts)
            Path(temporary).replace(path)
        except BaseException as error:
            if temporary is not None:
                self._unlink(Path(temporary))
            if not isinstance(error, OSError):
                raise
            self._report(
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
        if fault := self._misfit(blob[:_HEADER_BYTES], len(blob)):  # not the bytes that were looked at
            return None, fault
        lengths = blob[len(_MAGIC) : len(_MAGIC) + _LENGTHS.size]
        version_bytes, key_bytes, _ = _LENGTHS.unpack(lengths)
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


def _read(descriptor: int, size: int) -> bytes:
    """The first ``size`` bytes of a file, or as many as there are."""
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        return file.read(size)


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()
