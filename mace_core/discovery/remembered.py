"""What is installed, remembered between processes: reading the metadata of all distributions takes longer than the rest
of finding a plugin.

A memory is good while every folder on ``sys.path`` and the entry points of every distribution in it are as they were.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mace_core.caching.cache import CheckedCache
    from mace_core.discovery.entry_points import PluginEntry

_log = logging.getLogger("mace.plugins")

_METADATA = (".dist-info", ".egg-info")


class Installed(NamedTuple):
    """A distribution with entry points of ours.

    Attributes:
        name, version: of the distribution.
        text: its entry_points.txt.
        entries: group, name and value of each of ours.
        fault: why there are none; "" if there are.
    """

    name: str
    version: str
    text: str
    entries: list[tuple[str, str, str]]
    fault: str


class PluginMemory:
    """Reads and writes what is remembered for this interpreter and its ``sys.path`` as it is now."""

    def __init__(self) -> None:
        self._stamp = _stamp()
        self._key = json.dumps([sys.version, sys.prefix, *sys.path])

    def installed(self) -> list[Installed] | None:
        """The distributions with plugins, or None: nothing is remembered, or something has changed."""
        found = self._get(self._key)
        try:
            return None if found is None else [Installed(*row) for row in found]
        except TypeError as error:
            _log.info("the stored list of plugins cannot be read (%s); looking again", error)
            return None

    def note_installed(self, found: list[Installed]) -> None:
        """Remember the distributions with plugins."""
        self._put(self._key, found)

    def was_loaded(self, entry: PluginEntry) -> bool:
        """Whether this entry of this installation has been loaded before."""
        return bool(self._get(f"{self._key} {entry.group} {entry.name}") == [entry.value, entry.version])

    def note_loaded(self, entry: PluginEntry) -> None:
        """Remember that it has been."""
        self._put(f"{self._key} {entry.group} {entry.name}", [entry.value, entry.version])

    def _get(self, key: str) -> Any:
        if self._stamp is None:
            return None
        payload = _cache().get(key)
        if payload is None:
            return None
        try:
            stamp, content = json.loads(payload)
        except ValueError as error:
            _log.info("the stored list of plugins cannot be read (%s); looking again", error)
            return None
        return content if stamp == self._stamp else None

    def _put(self, key: str, content: Any) -> None:
        if self._stamp is not None:
            _cache().put(key, json.dumps([self._stamp, content]).encode())


def _cache() -> CheckedCache:
    from mace_core.caching.build_id import build_id
    from mace_core.caching.cache import CheckedCache

    return CheckedCache("plugins", build_id())


def _stamp() -> str | None:
    """A digest of everything on ``sys.path`` that tells which entry points there are; None where somebody else's finder
    of distributions may know more."""
    import hashlib

    if any(hasattr(finder, "find_distributions") and _is_foreign(finder) for finder in sys.meta_path):
        return None
    digest = hashlib.sha256()
    for folder in sys.path:
        digest.update(f"{folder}\n".encode(errors="surrogateescape"))
        for line in sorted(_describe(folder or ".")):
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _is_foreign(finder: object) -> bool:
    module = getattr(finder, "__module__", "") or type(finder).__module__
    return not module.startswith(("importlib.", "_frozen_importlib"))


def _describe(folder: str) -> list[str]:
    """The folder's time, and name, time and size of the entry points of each distribution in it."""
    lines = [_state(folder)]
    try:
        names = [name for name in os.listdir(folder) if name.endswith(_METADATA)]  # noqa: PTH208
    except OSError:
        return lines  # not there, or a zip file, whose own time says enough
    return lines + [f"{name} {_state(f'{folder}/{name}/entry_points.txt')}" for name in names]


def _state(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
    except OSError:
        return "-"
    return f"{status.st_mtime_ns} {status.st_size}"
