"""The devices of this machine: every provider's probe."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mace_core.discovery.entry_points import trace
from mace_core.errors import DeviceNotFoundError, MaceError, PluginError, error_text
from mace_core.faults import limits_now
from mace_core.host.signals import signals_kept
from mace_core.host.waiting import GivenUpError
from mace_core.provider.border import WrongAnswerError, calling, instance_of, list_of
from mace_core.provider.device import Device, DeviceKind, Missing, ProbeResult
from mace_core.provider.plugin_status import PluginStatus
from mace_core.provider.probe_cache import ProbeCache
from mace_core.provider.registry import REFERENCE, Registry, default_registry

_log = logging.getLogger("mace.plugins")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is there, and what is not.

    Attributes:
        devices: all devices, virtual and compile-only ones included: accelerators, then CPUs, then the reference.
        missing: per provider, what it looked for in vain; a probe that raised is listed here too.
        failures: plugins that could not be loaded.
    """

    devices: tuple[Device, ...]
    missing: Mapping[str, tuple[Missing, ...]]
    failures: tuple[PluginStatus, ...]

    @property
    def real_devices(self) -> tuple[Device, ...]:
        """Those that may be chosen without being named: not virtual, able to execute."""
        return tuple(device for device in self.devices if is_real(device))


def is_real(device: Device) -> bool:
    """Whether a device may be chosen without being named in full."""
    return device.can_execute and not device.is_virtual


def inventory(registry: Registry | None = None, *, refresh: bool = False) -> Inventory:
    """Probe all providers; results are cached on disk (`refresh` looks again).  Never raises for a bad plugin."""
    registry = registry or default_registry()
    cache = ProbeCache(registry)
    devices: list[Device] = []
    missing: dict[str, tuple[Missing, ...]] = {}
    for name in registry.names():
        try:
            result = _probe(registry, name, cache, refresh)
        except PluginError:
            continue  # told in `failures`
        devices.extend(result.devices)
        if result.missing:
            missing[name] = result.missing
    devices.sort(key=_preference)
    return Inventory(tuple(devices), missing, tuple(registry.failures))


def probe(name: str, registry: Registry | None = None, *, refresh: bool = False) -> ProbeResult:
    """What one provider finds, from the cache where that is still true.

    Raises:
        DeviceNotFoundError: if the provider is not installed.
        PluginError: if it cannot be loaded.
    """
    registry = registry or default_registry()
    return _probe(registry, name, ProbeCache(registry), refresh)


def find_device(
    name: str,
    registry: Registry | None = None,
    *,
    refresh: bool = False,
    for_execution: bool = True,
    options: Mapping[str, object] | None = None,
) -> Device:
    """The device a user calls ``name``.

    ``provider`` means that provider's first real device; ``provider:id`` means that very one, and is the only way to
    get a virtual device.  With ``for_execution=False`` compile-only targets are found too.
    ``options`` are those the provider is to be opened with: some bring in devices that are not found without.

    Raises:
        DeviceNotFoundError: for an unknown name (with the nearest one), or where the hardware is missing (with why).
        PluginError: if the provider is installed and cannot be loaded.
    """
    registry = registry or default_registry()
    provider, colon, device_id = name.partition(":")
    result = probe(provider, registry, refresh=refresh)
    if options:
        loaded = registry.provider(provider)
        if not loaded.probe_options.isdisjoint(options):
            with calling(provider, "ExecutionProvider.probe_with"):
                result = registry.calls(provider).call(
                    limits_now().probe_seconds, provider, _LOOKING, lambda: loaded.probe_with(options), limit=_LIMIT
                )
                _check(provider, result)
    if not colon:
        for device in result.devices:
            if is_real(device):
                return device
        raise DeviceNotFoundError(_no_real_device(provider, result))
    for device in result.devices:
        if device.id == device_id:
            if for_execution and not device.can_execute:
                raise DeviceNotFoundError(
                    f"'{name}' is a target to compile for; it cannot run anything on this machine"
                )
            return device
    raise DeviceNotFoundError(_no_such_device(name, device_id, provider, result))


_LOOKING, _LIMIT = "looking for its devices", "probe_seconds"


def _probe(registry: Registry, name: str, cache: ProbeCache, refresh: bool) -> ProbeResult:
    """What a provider finds, or that it failed; after a time nobody waits for it any more."""
    if not refresh:
        cached = cache.get(name)
        if cached is not None:
            return cached
    provider = registry.provider(name)
    trace(f"probing {name}")
    calls = registry.calls(name)

    def ask() -> ProbeResult:
        with signals_kept(), calling(name, "ExecutionProvider.probe"):
            found = provider.probe()
            _check(name, found)
        return found

    try:
        result = calls.call(limits_now().probe_seconds, name, _LOOKING, ask, limit=_LIMIT)
        cache.put(name, result)
    except GivenUpError as error:
        _log.warning("the provider '%s' is left out: it looks for its devices, and %s", name, error_text(error))
        return ProbeResult(missing=(Missing(name, f"its probe was given up on: {error_text(error)}", ""),))
    except MaceError as error:  # the other providers' devices must still be found
        if error.has_context:  # else another call of it hangs
            traceback = error if _log.isEnabledFor(logging.DEBUG) else None
            _log.warning("%s; its devices are left out", error, exc_info=traceback)
        return ProbeResult(missing=(Missing(name, error_text(error), ""),))
    return result


def _check(name: str, result: ProbeResult) -> None:
    """Look through what a probe returned.

    Raises:
        WrongAnswerError: if it is not what the contract says.
    """
    instance_of(ProbeResult, result)
    list_of(Missing, result.missing)
    for text in (*list_of(str, result.depends_on), *list_of(str, result.environment)):
        if "\0" in text:
            raise WrongAnswerError(f"names the file or variable {text!r}")
    devices = list_of(Device, result.devices)
    for device in devices:
        if device.provider != name:
            raise WrongAnswerError(
                f"returned the device '{device.qualified_name}', which says it belongs to '{device.provider}'"
            )
    ids = [device.id for device in devices]
    if len(set(ids)) < len(ids):
        raise WrongAnswerError(f"returned two devices of one id: {', '.join(ids)}")


def _preference(device: Device) -> tuple[int, str]:
    if device.provider == REFERENCE:
        return 2, ""
    return (1 if device.kind is DeviceKind.CPU else 0), device.provider


def explain_missing(missing: Sequence[Missing]) -> str:
    """Missing things as text for a message: the first, which decides, in full, the others by name."""
    first, *others = missing
    text = f"{first.what}: {first.reason}{f' ({first.hint})' if first.hint else ''}"
    if others:
        text += f"; also missing: {', '.join(item.what for item in others)} (see `mace devices`)"
    return text


def _no_real_device(provider: str, result: ProbeResult) -> str:
    parts = [f"the provider '{provider}' has no device on this machine"]
    if result.missing:
        parts.append(explain_missing(result.missing))
    named = [device.qualified_name for device in result.devices if device.can_execute]
    if named:
        parts.append(f"it has virtual devices, which have to be named in full: {', '.join(named)}")
    return "; ".join(parts)


def _no_such_device(name: str, device_id: str, provider: str, result: ProbeResult) -> str:
    ids = [device.id for device in result.devices]
    if not ids:
        return _no_real_device(provider, result)
    import difflib

    near = difflib.get_close_matches(device_id, ids, n=1)
    advice = f"; did you mean '{provider}:{near[0]}'?" if near else ""
    available = ", ".join(device.qualified_name for device in result.devices)
    return f"there is no device '{name}'{advice} (available: {available})"
