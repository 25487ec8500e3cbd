"""Probe results kept between processes, so that starting a session loads only the providers it uses."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mace_core.caching.build_id import build_id
from mace_core.caching.cache import CheckedCache
from mace_core.discovery.entry_points import PluginEntry, trace
from mace_core.host.threads import default_threads
from mace_core.provider.api import API_VERSION
from mace_core.provider.device import Device, DeviceKind, Missing, ProbeResult
from mace_core.provider.registry import Registry
from mace_core.tensor import DType, MemoryKind

_log = logging.getLogger("mace.plugins")

_FileState = list[int] | None  # [mtime in ns, size], None for a file that is not there


class ProbeCache:
    """Results on disk, each with everything it depends on: a result is only handed out while all of that is the same.

    That is: the plugin's distribution, version and files, this interpreter and its site-packages, this machine
    and its thread limits, and the files and environment variables the provider named in its `ProbeResult`.
    """

    def __init__(self, registry: Registry, *, directory: Path | None = None) -> None:
        self._registry = registry
        self._store = CheckedCache("inventory", build_id(), directory)

    def get(self, name: str) -> ProbeResult | None:
        """The stored result of provider ``name`` if it is still true, else None."""
        entry = self._cachable(name)
        if entry is None:
            return None
        payload = self._store.get(_key(entry))
        if payload is None:
            return None
        try:
            record = json.loads(payload)
            if record["stamp"] != _stamp(entry, self._registry.code(name)):
                return None
            if record["files"] != _file_states(record["files"]):
                return None
            if record["environment"] != _variables(record["environment"]):
                return None
            result = _from_record(record["result"])
        except (KeyError, TypeError, ValueError) as error:
            _log.info("the stored inventory of '%s' cannot be read (%s); looking again", name, error)
            return None
        trace(f"{name}: devices taken from the cache")
        return result

    def put(self, name: str, result: ProbeResult) -> None:
        """Store a result, unless the provider lives in the application itself."""
        entry = self._cachable(name)
        if entry is None:
            return
        record = {
            "stamp": _stamp(entry, self._registry.code(name)),
            "files": _file_states(result.depends_on),
            "environment": _variables(result.environment),
            "result": _to_record(result),
        }
        self._store.put(_key(entry), json.dumps(record).encode())

    def _cachable(self, name: str) -> PluginEntry | None:
        entry = self._registry.entry(name)
        return entry if entry.distribution else None


def _key(entry: PluginEntry) -> str:
    return f"{entry.name} {sys.prefix}"


def _stamp(entry: PluginEntry, code: str) -> dict[str, Any]:
    # by name: asking sysconfig takes longer than reading what is stored
    site_packages = {folder for folder in sys.path if folder.rstrip("/\\").endswith(("site-packages", "dist-packages"))}
    return {
        "plugin": [entry.name, entry.value, code],
        "core": [build_id(), str(API_VERSION)],
        "python": [sys.version, sys.prefix],
        "machine": [platform.node(), platform.machine(), platform.release(), default_threads()],
        # installing or removing any package changes its folder, and probes look for packages
        "files": _file_states(sorted(site_packages)),
    }


def _file_states(paths: Iterable[str]) -> dict[str, _FileState]:
    states: dict[str, _FileState] = {}
    for path in paths:
        try:
            found = os.stat(path)  # noqa: PTH116  (a third of the time of Path.stat)
        except OSError:
            states[path] = None
        else:
            states[path] = [found.st_mtime_ns, found.st_size]
    return states


def _variables(names: Iterable[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def _to_record(result: ProbeResult) -> dict[str, Any]:
    return {
        "devices": [_device_record(device) for device in result.devices],
        "missing": [[m.what, m.reason, m.hint] for m in result.missing],
        "depends_on": list(result.depends_on),
        "environment": list(result.environment),
    }


def _device_record(device: Device) -> dict[str, Any]:
    return {
        "provider": device.provider,
        "id": device.id,
        "kind": device.kind.value,
        "name": device.name,
        "vendor": device.vendor,
        "memory_bytes": device.memory_bytes,
        "dtypes": sorted(dtype.label for dtype in device.dtypes),
        "memory_kinds": [kind.value for kind in device.memory_kinds],
        "is_virtual": device.is_virtual,
        "can_execute": device.can_execute,
        "default_threads": device.default_threads,
        "properties": dict(device.properties),
    }


def _from_record(record: dict[str, Any]) -> ProbeResult:
    return ProbeResult(
        devices=tuple(_device(device) for device in record["devices"]),
        missing=tuple(Missing(*fields) for fields in record["missing"]),
        depends_on=tuple(record["depends_on"]),
        environment=tuple(record["environment"]),
    )


def _device(record: dict[str, Any]) -> Device:
    changed = {
        "kind": DeviceKind(record["kind"]),
        "dtypes": frozenset(DType.from_label(label) for label in record["dtypes"]),
        "memory_kinds": tuple(MemoryKind(kind) for kind in record["memory_kinds"]),
    }
    return Device(**{**record, **changed})
