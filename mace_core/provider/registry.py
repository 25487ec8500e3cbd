"""Finds execution providers, loads those that are asked for, and keeps every failure as data."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from mace_core.discovery.entry_points import PROVIDER_GROUP, PluginEntry, Switches, describe, discover, load, trace
from mace_core.discovery.plugin_code import plugin_code, same_version
from mace_core.errors import DeviceNotFoundError, PluginError, error_text, shorten
from mace_core.faults import limits_now
from mace_core.host.fork_safe import fork_safe_rlock, unforked
from mace_core.host.waiting import GivenUpError, OneAtATime, within
from mace_core.provider.api import API_VERSION, ApiVersion
from mace_core.provider.device_words import meant_by
from mace_core.provider.plugin_status import PluginState, PluginStatus
from mace_core.provider.provider import ExecutionProvider
from mace_core.version import VERSION

_log = logging.getLogger("mace.plugins")

REFERENCE = "reference"
"""The provider of the core itself: always there, the name belongs to mace-core alone."""

CUSTOM = "custom"
"""The provider of custom operators: registered in the process once a model uses one."""

FIRST_PARTY = {name: f"mace-{name}" for name in ("cpu", "opencl", "hexagon", "apu", "npu")}
"""Providers published with the core: name -> distribution, for "pip install …" advice."""

_REFERENCE_ENTRY = PluginEntry(
    PROVIDER_GROUP, REFERENCE, "mace_core.scheduler.host.reference:ReferenceProvider", "mace-core", VERSION
)


@dataclass(slots=True)
class _Slot:
    """What is known of one name."""

    entry: PluginEntry
    state: PluginState = PluginState.NOT_LOADED
    reason: str = ""
    api_version: str = ""
    provider: ExecutionProvider | None = None
    error: BaseException | None = None
    code: str = ""  # as it was when it was imported
    calls: OneAtATime = field(default_factory=OneAtATime)
    loading: OneAtATime = field(default_factory=OneAtATime)

    def status(self) -> PluginStatus:
        entry = self.entry
        return PluginStatus(
            entry.name, entry.distribution, entry.version, self.api_version, self.state, self.reason, entry.group
        )


@dataclass(slots=True)
class _Found:
    slots: dict[str, _Slot] = field(default_factory=dict)
    excluded: list[_Slot] = field(default_factory=list)  # rows without a name of their own: conflicts, faults
    replaced: dict[str, _Slot] = field(default_factory=dict)  # by providers registered in the process


class Registry:
    """The providers of this process.  Methods may be called from any thread.

    Nothing is read before the first call; listing names imports no plugin.
    """

    def __init__(self, switches: Switches | None = None) -> None:
        """``switches`` default to the environment's, read at the first call."""
        self._switches = switches
        self._lock = fork_safe_rlock()
        self._found: _Found | None = None

    def names(self) -> list[str]:
        """Names that may be loaded: installed, not switched off, without conflict; those that failed are left out."""
        usable = (PluginState.OK, PluginState.NOT_LOADED)
        with self._lock:
            return sorted(name for name, slot in self._discovered().slots.items() if slot.state in usable)

    def plugins(self, *, load_all: bool = False) -> list[PluginStatus]:
        """Every provider plugin with its state, by name; ``load_all`` imports those that are not loaded yet."""
        with self._lock:
            found = self._discovered()
        if load_all:
            for slot in list(found.slots.values()):
                self._load(slot)
        with self._lock:
            rows = [*found.slots.values(), *found.excluded]
            return sorted((s.status() for s in rows), key=lambda s: (s.name, s.distribution))

    @property
    def failures(self) -> list[PluginStatus]:
        """Plugins that cannot be used although nobody switched them off, as far as is known without loading more."""
        bad = (PluginState.FAILED, PluginState.CONFLICT, PluginState.INCOMPATIBLE)
        return [status for status in self.plugins() if status.state in bad]

    def status(self, name: str) -> PluginStatus:
        """The state of the provider called ``name``.

        Raises:
            DeviceNotFoundError: if no such provider is installed.
        """
        with self._lock:
            return self._slot(name).status()

    def entry(self, name: str) -> PluginEntry:
        """Where the provider called ``name`` comes from.

        Raises:
            DeviceNotFoundError: if no such provider is installed.
        """
        with self._lock:
            return self._slot(name).entry

    def code(self, name: str) -> str:
        """What identifies the code of the provider called ``name`` to the caches: distribution, version, and the files
        as they were when it was loaded, or are now.

        Raises:
            DeviceNotFoundError: if no such provider is installed.
        """
        with self._lock:
            slot = self._slot(name)
            return slot.code or plugin_code(slot.entry)

    def provider(self, name: str) -> ExecutionProvider:
        """The one instance of the provider called ``name``, loaded now if it was not.

        Raises:
            DeviceNotFoundError: if no such provider is installed.
            PluginError: if it is installed and cannot be used; the message says why.
        """
        with self._lock:
            slot = self._slot(name)
        self._load(slot)
        if slot.provider is None:
            origin = f" (from {slot.entry.provenance})" if slot.entry.provenance else ""
            raise PluginError(f"the provider '{name}'{origin} cannot be used: {slot.reason}") from slot.error
        return slot.provider

    def calls(self, name: str) -> OneAtATime:
        """What keeps ``probe`` and ``open`` of the provider called ``name`` apart, whoever calls them.

        Raises:
            DeviceNotFoundError: if no such provider is installed.
        """
        with self._lock:
            return self._slot(name).calls

    def register(self, provider_class: type[ExecutionProvider]) -> None:
        """Add a provider that lives in the application itself; it replaces an installed one of the same name.

        Raises:
            PluginError: if the class does not keep to the contract.
        """
        if not isinstance(provider_class, type):
            raise PluginError(f"{provider_class!r} is not a class: register a subclass of ExecutionProvider")
        name = getattr(provider_class, "name", None)
        if not isinstance(name, str) or not name:
            raise PluginError(f"{provider_class!r} has no name: set `name` to what users shall write")
        value = f"{provider_class.__module__}:{provider_class.__qualname__}"
        slot = _Slot(PluginEntry(PROVIDER_GROUP, name, value, "", ""))
        slot.code = f"{getattr(provider_class, 'version', '')} {plugin_code(slot.entry)}"
        _admit(slot, provider_class)
        if slot.provider is None:
            raise PluginError(f"the provider '{name}' cannot be registered: {slot.reason}") from slot.error
        with self._lock:
            found = self._discovered()
            before = found.slots.get(name)
            if before is not None:
                found.replaced.setdefault(name, before)
            found.slots[name] = slot

    def unregister(self, name: str) -> None:
        """Take a provider out again.  An installed one that it replaced comes back; one that was not replaced is gone
        until the registry is refreshed."""
        with self._lock:
            found = self._discovered()
            found.slots.pop(name, None)
            if name in found.replaced:
                found.slots[name] = found.replaced.pop(name)

    def refresh(self) -> None:
        """Forget everything, in-process registrations included, and look again at the next call."""
        with self._lock:
            self._found = None

    def suggestion(self, name: str) -> str:
        """Advice for an unknown provider name: the nearest one installed, or what to install."""
        import difflib

        with self._lock:
            names = sorted(self._discovered().slots)
        installed = f"installed: {', '.join(names)}"
        meant = meant_by(name)
        if meant is not None and meant[0] != name:
            provider, explanation = meant
            install = "" if provider in names else f" It is not installed: pip install {FIRST_PARTY[provider]}"
            return f"did you mean '{provider}'?{explanation and f' {explanation}.'}{install} ({installed})"
        if name in FIRST_PARTY and name not in names:
            return f"it is not installed: pip install {FIRST_PARTY[name]} ({installed})"
        near = next(iter(difflib.get_close_matches(name.lower(), sorted({*names, *FIRST_PARTY}), n=1)), None)
        if near is None:
            return installed
        if near not in names:
            return f"did you mean '{near}'? It is not installed: pip install {FIRST_PARTY[near]} ({installed})"
        return f"did you mean '{near}'? ({installed})"

    # --- private, called with the lock held -------------------------------------------------------------------------

    def _slot(self, name: str) -> _Slot:
        slot = self._discovered().slots.get(name)
        if slot is None:
            raise DeviceNotFoundError(f"there is no provider called '{shorten(name)}'; {self.suggestion(name)}")
        return slot

    def _discovered(self) -> _Found:
        if self._found is None:
            switches = self._switches if self._switches is not None else Switches.from_environment()
            self._found = _sort_out(discover(PROVIDER_GROUP), switches)
        return self._found

    @staticmethod
    def _load(slot: _Slot) -> None:
        """Import a provider that is not loaded yet.  The lock is not held: an import may call here."""
        if slot.state is not PluginState.NOT_LOADED:
            return
        with unforked(), slot.loading.held(slot.entry.name):
            if slot.state is PluginState.NOT_LOADED:  # else another thread was faster
                Registry._load_now(slot)

    @staticmethod
    def _load_now(slot: _Slot) -> None:
        entry = slot.entry
        trace(f"loading {entry.name} = {entry.value} from {entry.provenance}")
        slot.code = plugin_code(entry)  # before the import: what is changed later is not what runs
        try:
            loaded = load(entry)
        except KeyboardInterrupt:
            raise
        except GivenUpError as error:
            _fail(slot, f"importing {entry.value} was given up: {error_text(error)}", error)
        except BaseException as error:  # a plugin may raise anything on import, SystemExit included
            _fail(slot, f"importing {entry.value} failed: {describe(error)}{_import_hint(entry, error)}", error)
        else:
            _admit(slot, loaded)
        trace(f"{entry.name}: {slot.state.value}{f': {slot.reason}' if slot.reason else ''}")
        if slot.provider is None:
            _log.warning("the provider '%s' (%s) is left out: %s", entry.name, entry.provenance, slot.reason)


def default_registry() -> Registry:
    """The registry that sessions and the command line use."""
    return _DEFAULT


_DEFAULT = Registry()


def _sort_out(entries: Iterable[PluginEntry], switches: Switches) -> _Found:
    """One slot per usable name; conflicts and faults become rows of their own."""
    found = _Found()
    by_name: dict[str, list[PluginEntry]] = {REFERENCE: []}
    for entry in entries:
        if entry.fault:
            found.excluded.append(_Slot(entry, PluginState.FAILED, entry.fault))
        elif entry.name == REFERENCE and entry.distribution != "mace-core":
            reason = f"the name '{REFERENCE}' belongs to mace-core: uninstall {entry.distribution}"
            found.excluded.append(_Slot(entry, PluginState.CONFLICT, reason))
        else:
            by_name.setdefault(entry.name, []).append(entry)
    by_name[REFERENCE] = [_REFERENCE_ENTRY]
    for name, entries_of_name in by_name.items():
        usable, objections = [], {}
        for entry in entries_of_name:
            # an allow-list of plugins leaves the core's own alone
            asked = name != REFERENCE or name in switches.disabled
            objections[entry] = switches.objection(entry) if asked else ""
            if not objections[entry]:
                usable.append(entry)
        first = (usable or entries_of_name)[0]
        slot = _Slot(first)
        found.slots[name] = slot
        others = [entry for entry in entries_of_name if entry is not first]
        if not usable:
            slot.state, slot.reason = PluginState.DISABLED, objections[first]
        elif len(usable) > 1:
            slot.state, slot.reason = PluginState.CONFLICT, _conflict(name, usable)
            _log.warning("provider conflict: %s", slot.reason)
        for entry in others:
            state = PluginState.DISABLED if objections[entry] else PluginState.CONFLICT
            found.excluded.append(_Slot(entry, state, objections[entry] or slot.reason))
    for switch in switches.unknown(entry for entries_of_name in by_name.values() for entry in entries_of_name):
        _log.warning("MACE_PLUGINS or MACE_DISABLE_PLUGINS names '%s', which is not installed", switch)
    return found


def _conflict(name: str, rivals: Sequence[PluginEntry]) -> str:
    who = " and ".join(entry.provenance for entry in rivals)
    return (
        f"{who} both provide '{name}', so none is used: uninstall all but one of them, or choose one, as in "
        f"MACE_DISABLE_PLUGINS={name}@{rivals[-1].distribution}"
    )


def _admit(slot: _Slot, loaded: object) -> None:
    """Check a loaded class against the contract and make its instance."""
    from mace_core.provider.hooks import adopt_provider  # which reports in terms of this module

    name = slot.entry.name
    if not isinstance(loaded, type) or not issubclass(loaded, ExecutionProvider):
        _fail(slot, f"{slot.entry.value} is not a subclass of mace_core.provider.ExecutionProvider")
        return
    built_for = _api_version(loaded)
    if built_for is None:
        _fail(slot, f"{loaded.__name__} does not say `api_version = ApiVersion(major, minor)` in numbers")
        return
    slot.api_version = str(built_for)
    if not API_VERSION.accepts(built_for):
        slot.state, slot.reason = PluginState.INCOMPATIBLE, _version_advice(slot.entry, built_for)
        return
    if getattr(loaded, "name", None) != name:
        stated = getattr(loaded, "name", None)
        _fail(slot, f"{loaded.__name__}.name is {stated!r}, but its entry point is called {name!r}")
        return
    for attribute in ("vendor", "version"):
        if not isinstance(getattr(loaded, attribute, None), str):
            _fail(slot, f"{loaded.__name__} does not say its `{attribute}` (a string)")
            return
    fault = _options_fault(loaded)
    if fault:
        _fail(slot, f"{loaded.__name__}.{fault}")
        return
    if slot.entry.version and not same_version(loaded.version, slot.entry.version):
        _fail(
            slot,
            f"{loaded.__name__}.version is {loaded.version!r}, but {slot.entry.distribution} {slot.entry.version} is "
            f"installed, so what is imported is not what pip knows: pip install --force-reinstall "
            f"{slot.entry.distribution}",
        )
        return
    if inspect.isabstract(loaded):
        _fail(slot, f"{loaded.__name__} does not implement {', '.join(sorted(loaded.__abstractmethods__))}")
        return
    try:
        slot.provider = within(
            limits_now().import_seconds, name, f"calling {loaded.__name__}()", loaded, limit="import_seconds"
        )
    except KeyboardInterrupt:
        raise
    except GivenUpError as error:
        _fail(slot, f"{loaded.__name__}() was given up: {error_text(error)}", error)
        return
    except BaseException as error:
        _fail(slot, f"{loaded.__name__}() failed: {describe(error)}", error)
        return
    try:
        adopt_provider(slot.provider, name)
    except PluginError as error:
        slot.provider = None
        _fail(slot, str(error), error)
        return
    slot.state = PluginState.OK


def _fail(slot: _Slot, reason: str, error: BaseException | None = None) -> None:
    slot.state, slot.reason, slot.error = PluginState.FAILED, reason, error


def _options_fault(provider_class: type[ExecutionProvider]) -> str:
    """What is wrong with the declaration of its options; "" where nothing is."""
    options, brought_in = provider_class.options, provider_class.probe_options
    if not isinstance(options, Mapping):
        return f"options is {options!r}, not a mapping from option to a line that describes it"
    for name, line in options.items():
        if not isinstance(name, str) or not isinstance(line, str):
            return f"options has {name!r}: {line!r}, which is not the name of an option and a line that describes it"
    if not isinstance(brought_in, Set) or not all(isinstance(name, str) for name in brought_in):
        return f"probe_options is {brought_in!r}, not a set of names of options"
    by_policy = provider_class.policy_options
    if not isinstance(by_policy, Mapping) or not all(
        isinstance(policy, str) and isinstance(given, Mapping) and options.keys() >= given.keys()
        for policy, given in by_policy.items()
    ):
        return f"policy_options is {by_policy!r}, not a mapping from policy to some of its options"
    return ""


def _api_version(provider_class: type[ExecutionProvider]) -> ApiVersion | None:
    stated = getattr(provider_class, "api_version", None)
    if not isinstance(stated, tuple) or len(stated) != 2:
        return None
    if not all(isinstance(part, int) and not isinstance(part, bool) and part >= 0 for part in stated):
        return None
    return ApiVersion(*stated)


def _version_advice(entry: PluginEntry, built_for: ApiVersion) -> str:
    """Which side is the older one decides what to upgrade."""
    stale = "mace-core" if built_for > API_VERSION else entry.distribution or "the provider"
    return (
        f"it was written for contract {built_for}, this mace-core {VERSION} has contract {API_VERSION}: "
        f"pip install --upgrade {stale}"
    )


def _import_hint(entry: PluginEntry, error: BaseException) -> str:
    if isinstance(error, ImportError) and (error.name or "").startswith("mace_core"):
        distributions = " ".join(dict.fromkeys((entry.distribution, "mace-core")))
        return f" (it seems to be made for another mace-core: pip install --upgrade {distributions})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f" (a dependency is missing: pip install --force-reinstall {entry.distribution})"
    return ""
