"""The one plugin manager for session events, and the calls the core makes.

pluggy is imported only if some plugin implements a hook: without one, each call here costs a dictionary look-up.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mace_core.discovery.entry_points import HOOK_GROUP, PluginEntry, Switches, describe, discover, load, trace
from mace_core.errors import PluginError, error_text
from mace_core.host.fork_safe import fork_safe_rlock
from mace_core.host.waiting import GivenUpError, OneAtATime
from mace_core.provider.plugin_status import PluginState, PluginStatus

if TYPE_CHECKING:
    import pluggy
    import typer

    from mace_core.graph import Graph
    from mace_core.optimizer import GraphPass
    from mace_core.provider.device import Device
    from mace_core.provider.events import (
        CompileEvent,
        FaultEvent,
        GovernorEvent,
        GovernorState,
        PartitionEvent,
        RunProfile,
    )

_log = logging.getLogger("mace.plugins")

_MARK = "mace_impl"  # what pluggy's HookimplMarker("mace") leaves on a function


class HookManager:
    """Loads hook plugins on first use and calls them.  Methods may be called from any thread."""

    def __init__(self, switches: Switches | None = None) -> None:
        """``switches`` default to the environment's, read at the first call."""
        self._switches = switches
        self._lock = fork_safe_rlock()
        self._loading = OneAtATime()
        self._statuses: list[PluginStatus] | None = None
        self._manager: pluggy.PluginManager | None = None

    def plugins(self) -> list[PluginStatus]:
        """Every installed hook plugin with its state; loads them."""
        self._load()
        return list(self._statuses or ())

    def register(self, plugin: object, name: str) -> None:
        """Add hook implementations: a module or an object with functions marked by `hookimpl`.

        A plugin already registered under ``name`` is replaced.

        Raises:
            PluginError: for a misspelt hook or argument name; nothing is registered then.
        """
        import difflib

        import pluggy

        with self._lock:
            manager = self._manager or _new_manager()
            if manager.has_plugin(name):
                manager.unregister(name=name)
            try:
                manager.register(plugin, name)
                manager.check_pending()
            except pluggy.PluginValidationError as error:
                if manager.has_plugin(name):
                    manager.unregister(name=name)
                known = _hook_names()
                wrong = [hook for hook in _marked(plugin) if hook not in known]
                if not wrong:
                    raise PluginError(f"the hooks of '{name}' do not fit: {' '.join(str(error).split())}") from error
                near = difflib.get_close_matches(wrong[0], known, n=1)
                advice = f"did you mean '{near[0]}'?" if near else f"hooks are: {', '.join(known)}"
                raise PluginError(f"'{name}' implements an unknown hook '{wrong[0]}'; {advice}") from error
            finally:
                self._forget_unknown(manager)
            self._manager = manager

    def unregister(self, name: str) -> None:
        """Take a plugin out; nothing happens if it is not there."""
        with self._lock:
            if self._manager is not None and self._manager.has_plugin(name):
                self._manager.unregister(name=name)

    def caller(self, hook: str) -> pluggy.HookCaller | None:
        """The hook to call, or None where no plugin implements it."""
        if self._statuses is None:
            self._load()
        if self._manager is None:
            return None
        found: pluggy.HookCaller = getattr(self._manager.hook, hook)
        return found if found.get_hookimpls() else None

    def refresh(self) -> None:
        """Forget everything, in-process registrations included, and look again at the next call."""
        with self._lock:
            self._statuses, self._manager = None, None

    # --- private ----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load all plugins, once.  No lock that `register` wants is held: an import may call it."""
        with self._loading.held("hooks"):
            if self._statuses is not None:
                return
            self._statuses = statuses = []
            switches = self._switches if self._switches is not None else Switches.from_environment()
            for entry in discover(HOOK_GROUP):
                status = self._admit(entry, switches)
                statuses.append(status)
                trace(f"hooks of {entry.name} ({entry.provenance}): {status.state.value} {status.reason}".rstrip())
                if status.state is PluginState.FAILED:
                    _log.warning("the hooks of '%s' (%s) are left out: %s", entry.name, entry.provenance, status.reason)

    def _admit(self, entry: PluginEntry, switches: Switches) -> PluginStatus:
        def status(state: PluginState, reason: str = "") -> PluginStatus:
            return PluginStatus(entry.name, entry.distribution, entry.version, "", state, reason, HOOK_GROUP)

        if entry.fault:
            return status(PluginState.FAILED, entry.fault)
        if objection := switches.objection(entry):
            return status(PluginState.DISABLED, objection)
        try:
            plugin = load(entry)
            self.register(plugin() if isinstance(plugin, type) else plugin, f"{entry.distribution}:{entry.name}")
        except KeyboardInterrupt:
            raise
        except PluginError as error:
            return status(PluginState.FAILED, str(error))
        except GivenUpError as error:
            return status(PluginState.FAILED, f"importing {entry.value} was given up: {error_text(error)}")
        except BaseException as error:  # a plugin may raise anything on import, SystemExit included
            return status(PluginState.FAILED, f"importing {entry.value} failed: {describe(error)}")
        return status(PluginState.OK)

    @staticmethod
    def _forget_unknown(manager: pluggy.PluginManager) -> None:
        """An unknown hook of a refused plugin stays behind as an empty caller; take it away."""
        known = set(_hook_names())
        for name in [n for n in vars(manager.hook) if not n.startswith("_") and n not in known]:
            delattr(manager.hook, name)


_DEFAULT = HookManager()


def default_hooks() -> HookManager:
    """The plugin manager of this process."""
    return _DEFAULT


def adopt_provider(provider: object, name: str) -> None:
    """Register the hooks that a loaded provider carries, if it carries any.

    Raises:
        PluginError: for a misspelt hook or argument name.
    """
    if _marked(provider):
        _DEFAULT.register(provider, f"provider:{name}")


# --- what the core calls ----------------------------------------------------------------------------------------------


def registered_passes() -> list[GraphPass]:
    """The passes that plugins add, in their order of registration.

    Raises:
        PluginError: if a plugin fails to name its passes.
    """
    hook = _DEFAULT.caller("mace_register_passes")
    if hook is None:
        return []
    return [graph_pass for passes in reversed(_ask(hook)) for graph_pass in passes or ()]


def registered_policies() -> list[object]:
    """The policies that plugins add, in their order of registration.

    Raises:
        PluginError: if a plugin fails to name its policies.
    """
    hook = _DEFAULT.caller("mace_register_policies")
    if hook is None:
        return []
    return [policy for policies in reversed(_ask(hook)) for policy in policies or ()]


def select_devices(devices: Sequence[Device], graph: Graph) -> list[Device] | None:
    """A plugin's choice among ``devices`` for a session that names none; None where no plugin has an opinion.

    Raises:
        PluginError: if the plugin fails, or names a device that was not offered.
    """
    hook = _DEFAULT.caller("mace_select_device")
    if hook is None:
        return None
    chosen = _ask(hook, devices=tuple(devices), graph=graph)
    if chosen is None:
        return None
    strange = [device for device in chosen if device not in devices]
    if strange or not chosen:
        raise PluginError(
            f"mace_select_device of a plugin chose {list(chosen)!r}, which is not among the devices offered"
        )
    return list(chosen)


def emit_partition(event: PartitionEvent) -> None:
    """Tell observers how a model was split."""
    _tell("mace_on_partition", event)


def emit_compile(event: CompileEvent) -> None:
    """Tell observers that a device compiled a subgraph, or could not."""
    _tell("mace_on_compile", event)


def emit_fault(event: FaultEvent) -> None:
    """Tell observers that a device failed in a run, or works again."""
    _tell("mace_on_fault", event)


def emit_run_profile(event: RunProfile) -> None:
    """Tell observers about a profiled run."""
    _tell("mace_on_run_profile", event)


def emit_governor(event: GovernorEvent) -> None:
    """Tell observers that the governor changed the mode."""
    _tell("mace_on_governor", event)


def select_mode(state: GovernorState) -> str | None:
    """The mode that a plugin wants; None where none has an opinion.

    Raises:
        PluginError: if the plugin fails, or answers no text.
    """
    hook = _DEFAULT.caller("mace_select_mode")
    if hook is None:
        return None
    wish = _ask(hook, state=state)
    if wish is not None and not isinstance(wish, str):
        raise PluginError(f"mace_select_mode of a plugin answered {wish!r}, which is not the name of a mode")
    return wish


def has_observers(hook: str) -> bool:
    """Whether building an event for ``hook`` is worth while."""
    return _DEFAULT.caller(hook) is not None


def register_commands(app: typer.Typer) -> None:
    """Let plugins add sub-commands; one that fails is logged and left out."""
    hook = _DEFAULT.caller("mace_register_commands")
    if hook is not None:
        try:
            hook(app=app)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _log.warning("a plugin's mace_register_commands failed: %s", describe(error))


def _tell(name: str, event: object) -> None:
    hook = _DEFAULT.caller(name)
    if hook is None:
        return
    try:
        hook(event=event)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # an observer must not break what it observes
        _log.warning("a plugin's %s failed: %s", name, describe(error), exc_info=_log.isEnabledFor(logging.DEBUG))


def _ask(hook: pluggy.HookCaller, **arguments: Any) -> Any:
    try:
        return hook(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        who = ", ".join(implementation.plugin_name for implementation in hook.get_hookimpls())
        raise PluginError(f"{hook.name} of a plugin ({who}) failed: {describe(error)}") from error


def _new_manager() -> pluggy.PluginManager:
    import pluggy

    from mace_core.provider.hook_specs import PROJECT, HookSpecs

    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpecs)
    return manager


def _hook_names() -> list[str]:
    from mace_core.provider.hook_specs import HookSpecs

    return [name for name in vars(HookSpecs) if name.startswith("mace_")]


def _marked(plugin: object) -> list[str]:
    """Names of the hooks that an object or module implements; attributes are looked up without running properties."""
    owner = type(plugin) if not hasattr(plugin, "__path__") and not hasattr(plugin, "__spec__") else plugin
    found = []
    for name in dir(owner):
        options = getattr(getattr(owner, name, None), _MARK, None)
        if isinstance(options, dict):
            found.append(options.get("specname") or name)
    return found
