"""Files that a deployment file names: found, downloaded where they are URLs, and checked."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mace_core.caching.cache import cache_dir
from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import MaceError, shorten
from mace_core.frontend.file_kinds import similar_file
from mace_core.host.files import replacing
from mace_core.progress import report
from mace_core.version import VERSION

SCHEMES = ("http", "https")
CHUNK = 1 << 20
TIMEOUT_SECONDS = 60.0
"""Without a byte, after which a download has failed."""

LARGEST_DOWNLOAD = 16 << 30


@dataclass(slots=True)
class Files:
    """Where the files of a deployment file are.

    Attributes:
        folder: of the deployment file: its relative paths begin there, and where nothing is there, in the folder that
            the command was started in, which is MACE's rule.
        notes: what should be told of them.
    """

    folder: Path
    notes: list[str] = field(default_factory=list)

    def find(
        self, text: str, place: str, key: str, sha256: str = "", *, is_file: bool = True, is_data: bool = False
    ) -> Path:
        """The file that a key names.

        Args:
            place: of the key in its file, for messages.
            sha256: what its content has to be; "" where nothing is said.
            is_file: a folder will not do.
            is_data: numbers to compare results on, for which MACE has no checksum: they are downloaded without one.

        Raises:
            ConfigError: if it is not there, cannot be downloaded, or has another checksum.
        """
        text = text.strip()
        scheme = urllib.parse.urlsplit(text).scheme if "://" in text else ""
        if scheme:
            if scheme.lower() not in SCHEMES:
                raise ConfigError(f"{place}: {key} is '{shorten(text)}'; a URL begins with http:// or https://")
            if not sha256 and is_data:
                return self._downloaded_data(text, place, key)
            if not sha256:
                raise ConfigError(
                    f"{place}: {key} is a URL and has no checksum; what is downloaded is believed only by its SHA-256: "
                    "add it, or download the file and name it"
                )
            return _downloaded(text, sha256, place, key)
        path = self._local(text, place, key)
        if is_file and not path.is_file():  # reading a pipe or a device might never end
            what = "a folder" if path.is_dir() else "no regular file"
            raise ConfigError(f"{place}: {key} '{shorten(text)}' is {what}")
        if sha256:
            check_sha256(path, sha256, place, key)
        return path

    def _downloaded_data(self, url: str, place: str, key: str) -> Path:
        """Data of a URL, downloaded once."""
        path = _place_of(url, "url-" + hashlib.sha256(url.encode()).hexdigest())
        if not path.is_file():
            try:
                with _replacing(path) as file:
                    _fetch(url, file.write, place, key)
            except ConfigError as error:
                raise ConfigError(
                    f"{error}; download it where that is possible and name the file, or remove {key}: random numbers "
                    "are taken then"
                ) from None
        self.notes.append(
            f"{key} '{shorten(url)}' has no checksum and is believed as it is: SHA-256 {sha256_of(path, place, key)}"
        )
        return path

    def _local(self, text: str, place: str, key: str) -> Path:
        try:
            given = Path(text).expanduser()
            beside, here = self.folder / given, Path(given)
            if beside.exists():
                return beside
            if here.exists():
                self.notes.append(
                    f"{key} '{shorten(text)}' is taken from the folder of the command, as MACE does: beside the "
                    "deployment file there is none"
                )
                return here
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"{place}: {key} '{shorten(text)}' is no name of a file: {error}") from None
        near = similar_file(beside) if beside.parent.is_dir() else ""
        meant = f"; did you mean '{given.with_name(near)}'?" if near else ""
        raise ConfigError(f"{place}: there is no file '{shorten(text)}' ({key}){meant}")


def check_sha256(path: Path, wanted: str, place: str, key: str) -> None:
    """
    Raises:
        ConfigError: if the content of a file has another SHA-256 than ``wanted``.
    """
    found = sha256_of(path, place, key)
    if found != wanted:
        raise ConfigError(
            f"{place}: the checksum of '{path.name}' is {found}, and the file says {wanted}: it is another file, or a "
            "damaged one"
        )


def sha256_of(path: Path, place: str, key: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{place}: {key} '{path}' is {'a folder' if path.is_dir() else 'no regular file'}")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{place}: {key} '{path}' cannot be read: {error.strerror or error}") from None


def _downloaded(url: str, sha256: str, place: str, key: str) -> Path:
    """The file of a URL in the cache; its name there is its checksum, so that it is never another one."""
    path = _place_of(url, sha256)
    if path.is_file() and sha256_of(path, place, key) == sha256:
        return path
    with _replacing(path) as file:
        digest = hashlib.sha256()

        def take(chunk: bytes) -> None:
            digest.update(chunk)
            file.write(chunk)

        _fetch(url, take, place, key)
        if digest.hexdigest() != sha256:
            raise ConfigError(
                f"{place}: what '{shorten(url)}' gives has the checksum {digest.hexdigest()}, and the file says "
                f"{sha256}: it is another file, or a damaged one"
            )
    return path


def _place_of(url: str, name: str) -> Path:
    """A file of the cache with the suffix that the URL has."""
    suffix = Path(urllib.parse.urlsplit(url).path).suffix
    suffix = suffix if suffix[1:].isalnum() and len(suffix) < 16 else ""
    return cache_dir() / "downloads" / f"{name}{suffix}"


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file of the cache, which is there when it is whole.

    Raises:
        MaceError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise MaceError(f"the folder for downloads '{path.parent}' cannot be made: {error.strerror or error}") from None
    try:
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise MaceError(f"'{path}' cannot be written: {error.strerror or error}") from None


def _fetch(url: str, take: Callable[[bytes], object], place: str, key: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": f"mace/{VERSION}"})
    what, done = f"downloading {os.path.basename(urllib.parse.urlsplit(url).path) or url} (MB)", 0  # noqa: PTH119
    try:
        with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                take(chunk)
                done += len(chunk)
                report(what, done >> 20, max(total, done + 1) + (1 << 20) - 1 >> 20)
                if done > LARGEST_DOWNLOAD:
                    raise ConfigError(f"{place}: '{shorten(url)}' gives more than {LARGEST_DOWNLOAD >> 30} GiB")
            if done < total:
                raise ConfigError(f"{place}: '{shorten(url)}' ended after {done} of {total} bytes; try again")
    except ConfigError:
        raise
    except urllib.error.HTTPError as error:
        raise ConfigError(
            f"{place}: {key} cannot be downloaded: '{shorten(url)}' answers {error.code} {error.reason}"
        ) from None
    except http.client.HTTPException as error:
        raise ConfigError(
            f"{place}: {key} cannot be downloaded from '{shorten(url)}': {type(error).__name__} {error}"
        ) from None
    except (OSError, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise ConfigError(f"{place}: {key} cannot be downloaded from '{shorten(url)}': {reason}") from None
    report(what, 1, 1)


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the web alone: not to ``file:`` or ``ftp:``."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urllib.parse.urlsplit(newurl).scheme.lower() not in SCHEMES:
            raise urllib.error.URLError(f"it redirects to '{shorten(newurl)}'")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_WebOnly)
