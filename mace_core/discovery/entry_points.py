"""Which plugins are installed, read from the metadata of distributions; nothing of a plugin is imported to list it."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import importlib.metadata  # its import takes about 10 ms, so it is done on first use

from mace_core.discovery.remembered import Installed, PluginMemory
from mace_core.errors import describe_error
from mace_core.faults import limits_now
from mace_core.host.waiting import within

PROVIDER_GROUP = "mace.execution_providers"
HOOK_GROUP = "mace.hooks"

_log = logging.getLogger("mace.plugins")


class PluginEntry(NamedTuple):
    """One line of some distribution's entry points.

    Attributes:
        name: the name before the ``=``; a provider's name.
        value: ``package.module:attribute``.
        distribution, version: where it comes from, as pip shows it.
        fault: why the line cannot be used at all; "" where it can.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str
    fault: str = ""

    @property
    def provenance(self) -> str:
        return f"{self.distribution} {self.version}" if self.version else self.distribution

    @property
    def module(self) -> str:
        return self.value.partition(":")[0].strip()


def discover(group: str) -> list[PluginEntry]:
    """All entries of ``group`` on ``sys.path``, in path order; a shadowed copy of a distribution does not count.

    A distribution whose metadata cannot be read yields one entry with a ``fault`` instead of breaking the others.
    """
    found: list[PluginEntry] = []
    seen: set[str] = set()
    for name, version, text, entries, fault in _installed(tuple(sys.path), _folder_times(sys.path)):
        if group not in text:
            continue
        key = canonical_name(name)
        if key in seen:
            continue
        seen.add(key)
        if fault:  # a malformed file of somebody else's must not hide the other plugins
            found.append(PluginEntry(group, name, "", name, version, fault))
        found.extend(PluginEntry(group, e_name, value, name, version) for g, e_name, value in entries if g == group)
    trace(f"{group}: found {', '.join(f'{e.name} ({e.provenance})' for e in found) or 'nothing'}")
    return found


def load(entry: PluginEntry) -> object:
    """The object an entry names, loaded by stevedore.

    Where stevedore has loaded the same entry of the same installation before it is imported directly: importing
    stevedore takes longer than importing most plugins.

    Raises:
        GivenUpError: if it hangs.
        BaseException: whatever the plugin's import raised.
    """
    if _is_being_imported(entry.module):  # by this thread perhaps: another would wait for it, and it for that one
        return _loaded(entry)
    return within(
        limits_now().import_seconds,
        entry.name,
        f"importing {entry.value}",
        functools.partial(_loaded, entry),
        limit="import_seconds",
    )


def _is_being_imported(module: str) -> bool:
    parts = module.split(".")
    packages = (sys.modules.get(".".join(parts[:count])) for count in range(1, len(parts) + 1))
    return any(getattr(getattr(found, "__spec__", None), "_initializing", False) for found in packages)


def _loaded(entry: PluginEntry) -> object:
    memory = PluginMemory()
    if memory.was_loaded(entry):
        found = _imported(entry)
        if found is not None:
            return found
    plugin = _load_with_stevedore(entry)
    memory.note_loaded(entry)
    return plugin


def _imported(entry: PluginEntry) -> object | None:
    """What an entry names; None where that does not work any more, which stevedore is left to tell."""
    import importlib

    module, _, attributes = entry.value.partition(":")
    try:
        found: object = importlib.import_module(module.strip())
        for attribute in attributes.split("."):
            found = getattr(found, attribute.strip()) if attribute.strip() else found
    except Exception as error:
        trace(f"{entry.name} cannot be imported directly: {describe(error)}")
        return None
    return found


def _load_with_stevedore(entry: PluginEntry) -> object:
    import importlib.metadata

    from stevedore.named import NamedExtensionManager

    point = importlib.metadata.EntryPoint(entry.name, entry.value, entry.group)
    failures: list[BaseException] = []

    class OneEntry(NamedExtensionManager[object]):
        # stevedore's own list comes from a cache file without provenance, which may be older than what is installed
        def list_entry_points(self) -> list[importlib.metadata.EntryPoint]:
            return [point]

    manager = OneEntry(
        entry.group,
        [entry.name],
        on_load_failure_callback=lambda _manager, _entry, error: failures.append(error),
        on_missing_entrypoints_callback=None,
    )
    if failures:
        raise failures[0]
    plugin: object = manager[entry.name].plugin
    return plugin


class Switches(NamedTuple):
    """The environment's say on which plugins may be used: names, or ``name@distribution`` where several distributions
    have plugins of one name.

    Attributes:
        allowed: those of ``MACE_PLUGINS``, None where it is not set.
        disabled: those of ``MACE_DISABLE_PLUGINS``.
    """

    allowed: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls) -> Switches:
        """What the two variables say now."""
        allowed = os.environ.get("MACE_PLUGINS")
        return cls(
            None if not allowed else frozenset(_split(allowed)),
            frozenset(_split(os.environ.get("MACE_DISABLE_PLUGINS", ""))),
        )

    def objection(self, entry: PluginEntry) -> str:
        """Why a plugin is switched off; "" where it is not."""
        if any(_means(switch, entry) for switch in self.disabled):
            return "switched off by MACE_DISABLE_PLUGINS"
        if self.allowed is not None and not any(_means(switch, entry) for switch in self.allowed):
            return f"not in MACE_PLUGINS ({','.join(sorted(self.allowed))})"
        return ""

    def unknown(self, entries: Iterable[PluginEntry]) -> list[str]:
        """What the switches name that is not installed: most likely misspelt."""
        installed = list(entries)
        named = (self.allowed or frozenset()) | self.disabled
        return sorted(switch for switch in named if not any(_means(switch, entry) for entry in installed))


def _means(switch: str, entry: PluginEntry) -> bool:
    """Whether ``name`` or ``name@distribution`` is this plugin."""
    name, at, distribution = switch.partition("@")
    return name == entry.name and (not at or canonical_name(distribution) == canonical_name(entry.distribution))


def canonical_name(distribution: str) -> str:
    """The one spelling of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def describe(error: BaseException) -> str:
    """``ImportError: No module named 'x'``: an exception as part of a sentence, on one line."""
    return describe_error(error)


def trace(message: str) -> None:
    """Log what happens to plugins; with ``MACE_TRACE_PLUGINS=1`` also write it to standard error."""
    _log.debug(message)
    if os.environ.get("MACE_TRACE_PLUGINS", "0") not in ("", "0"):
        sys.stderr.write(f"[mace plugins] {message}\n")


def _split(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@functools.lru_cache(maxsize=1)
def _installed(path: tuple[str, ...], times: tuple[int, ...]) -> list[Installed]:
    """Distributions on ``path`` with entry points of ours; kept until a folder on it changes.

    Providers and hooks are looked for one after the other, and reading all metadata takes 10 ms.
    """
    memory = PluginMemory()
    found = memory.installed()
    if found is None:
        found = _read_installed(path)
        memory.note_installed(found)
    return found


def _read_installed(path: tuple[str, ...]) -> list[Installed]:
    import importlib.metadata

    found = []
    for distribution in importlib.metadata.distributions(path=list(path)):
        text = _read_entry_points(distribution)
        if text is None or "mace." not in text:
            continue
        name, version = _identity(distribution)
        try:
            entries = [(e.group, e.name, e.value) for e in distribution.entry_points if e.group.startswith("mace.")]
        except Exception as error:
            fault = f"the entry_points.txt of {name} cannot be read: {type(error).__name__}: {error}"
            found.append(Installed(name, version, text, [], fault))
        else:
            found.append(Installed(name, version, text, entries, ""))
    return found


def _folder_times(path: Sequence[str]) -> tuple[int, ...]:
    """When something was last put into or taken out of each folder."""
    times = []
    for folder in path:
        try:
            times.append(os.stat(folder or ".").st_mtime_ns)  # noqa: PTH116
        except OSError:
            times.append(0)
    return tuple(times)


def _read_entry_points(distribution: importlib.metadata.Distribution) -> str | None:
    try:
        return distribution.read_text("entry_points.txt")
    except (OSError, ValueError) as error:
        trace(f"an entry_points.txt cannot be read and is passed over: {describe(error)}")
        return None


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    try:
        metadata = distribution.metadata
        name, version = metadata["Name"], metadata["Version"]
    except Exception as error:  # missing or damaged METADATA
        trace(f"a distribution's METADATA cannot be read: {describe(error)}")
        return "unknown distribution", ""
    return name or "unknown distribution", version or ""
